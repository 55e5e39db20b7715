/* Signals, as their parts share them. */
#ifndef PYROVM_LIBOS_SIGNAL_H
#define PYROVM_LIBOS_SIGNAL_H

#include "os.h"

#define SIGNALS 64
#define SIGNAL_BIT(n) (1ULL << ((n) - 1))
#define UNBLOCKABLE (SIGNAL_BIT(SIGKILL) | SIGNAL_BIT(SIGSTOP))

struct action { /* as rt_sigaction has it */
	u64 handler;
	u64 flags;
	u64 restorer;
	u64 mask;
};
extern struct action actions[SIGNALS + 1];

/* A signal with more to say than its number.  Others are only bits. */
struct queued {
	struct list link;
	siginfo_t info;
};

extern u64 process_pending;
extern struct list process_queue;
extern struct waitq signal_waiters; /* sigtimedwait, signalfd: told of every signal */

/* Take the next pending signal among `wanted`; 0: none. */
int signal_take(struct thread *t, u64 wanted, siginfo_t *info);
/* Where the frame of a handler goes, and back from it. */
void signal_set_mask(struct thread *t, u64 mask);
bool signal_push_frame(struct regs *regs, int number, const siginfo_t *info,
		       const struct action *action, u64 mask);
long signal_pop_frame(struct regs *regs);
const char *signal_name(int number);
/* A fault nobody handles: say what happened, and end. */
void signal_report_fault(const struct regs *regs, int number, u64 address) __attribute__((noreturn));

#endif
