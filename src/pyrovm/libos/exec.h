#ifndef PYROVM_LIBOS_EXEC_H
#define PYROVM_LIBOS_EXEC_H

#include "os.h"

/* Load the program that the boot information names, and its registers at the start.  What cannot be
 * run ends the VM with a line that says why, and status 126, as a shell has it. */
void exec_program(struct regs *regs);
void enter_program(struct regs *regs) __attribute__((noreturn)); /* entry.S */
size_t fpu_frame_size(void); /* what a signal handler's frame takes at most */

#endif
