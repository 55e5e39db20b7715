/* What the program asks for, printed as strace does (pyrovm run --trace), and what nobody answers. */
#ifndef PYROVM_LIBOS_TRACE_H
#define PYROVM_LIBOS_TRACE_H

#include "os.h"

const char *error_name(long number); /* "ENOENT" */
long trace_call(struct regs *regs);
long syscall_unknown(u64 number);
void trace_unknown_calls(void); /* at the end, with PV_FLAG_TRACE */

#endif
