/*
 * Where the library OS is entered: at boot, by the program's system calls, by exceptions, and when
 * the VMM interrupts the program.
 *
 * All of it but the few instructions of the exception stubs runs in ring 3, on hardware KVM as well:
 * a software-only KVM executes ring 0 by interpreting it, and its SYSCALL does not change the ring.
 * GS always points to this vCPU's struct pv_cpu; programs cannot move it by arch_prctl.
 */
#include "asm.h"

	.section .header, "a"
	.quad PV_HEADER_MAGIC
	.long 1, header_end - header
header = . - 16
	.quad text_end_offset, rodata_end_offset, data_end_offset, bss_end_offset
	.quad start, syscall_entry, upcall_entry, vectors, fault_entry
	.quad return_start, return_end, return_entry
header_end = .

	.text
	.globl start
start:
	xor	%ebp, %ebp
	cmpl	$0, %gs:CPU_NUMBER
	jne	1f
	call	boot
	ud2
1:	call	cpu_begin
	ud2

/* ------------------------------------------------------------------------------ registers
 *
 * struct regs, laid out as Linux's pt_regs: pushed from its end.
 */
	.macro	save_general
	push	%rdi
	push	%rsi
	push	%rdx
	push	%rcx
	push	%rax
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	.endm

	.macro	restore_general
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rax
	pop	%rcx
	pop	%rdx
	pop	%rsi
	pop	%rdi
	.endm

/* ---------------------------------------------------------------------------- system calls */
	.globl syscall_entry
syscall_entry:
	mov	%rcx, %gs:CPU_USER_RIP
	mov	%r11, %gs:CPU_USER_RFLAGS
	mov	%cs, %r11d
	test	$3, %r11d
	jnz	1f
	lea	1f(%rip), %rcx		/* ring 0: hardware KVM; leave it at once */
	mov	$2, %r11d
	sysretq
1:	mov	%rsp, %gs:CPU_USER_RSP
	mov	%gs:CPU_KERNEL_STACK, %rsp
	cld
	push	$PV_USER_DATA
	push	%gs:CPU_USER_RSP
	push	%gs:CPU_USER_RFLAGS
	push	$PV_USER_CODE
	push	%gs:CPU_USER_RIP
	push	%rax			/* orig_rax */
	save_general
	mov	%rsp, %rdi
	call	syscall_dispatch	/* is it enough to restore what SYSCALL preserves? */

/* Back to the program.  What the VMM makes pending from here on, it tells at return_entry: the
 * registers still lie at the upper end of the thread's stack. */
	.globl return_start
return_start:
	cmpl	$0, %gs:CPU_PENDING
	jne	return_entry
	test	%eax, %eax
	jz	1f
	restore_general
	mov	8(%rsp), %rcx		/* rip */
	mov	32(%rsp), %rsp
	jmp	*%rcx

/* With all registers, at the struct regs in RSP.  IRET to the same ring is no privileged
 * instruction. */
	.globl restore_all
restore_all:
	cmpl	$0, %gs:CPU_PENDING
	jne	return_entry
1:	restore_general
	add	$8, %rsp
	iretq
	.globl return_end
return_end:

return_entry:
	mov	%gs:CPU_KERNEL_STACK, %rsp
	sub	$REGS_SIZE, %rsp
	jmp	upcalled

/* void enter_program(struct regs *) */
	.globl enter_program
enter_program:
	mov	%rdi, %rsp
	jmp	restore_all

/* A new thread starts here, on a stack made by thread_start(). */
	.globl thread_entry
thread_entry:
	mov	%rsp, %rdi
	call	thread_first_return
	jmp	restore_all

/* -------------------------------------------------- interrupted by the VMM, as abi.h says */
	.globl upcall_entry
upcall_entry:
	push	$PV_USER_DATA
	push	%gs:CPU_USER_RSP
	push	%gs:CPU_USER_RFLAGS
	push	$PV_USER_CODE
	push	%gs:CPU_USER_RIP
	push	$-1
	save_general
	cld
upcalled:
	mov	%rsp, %rdi
	call	upcall
	jmp	restore_all

/* ------------------------------------------------------------------------------ exceptions
 *
 * A stub runs in ring 0 on the exception stack (IST 1), which ring 3 may read and write.  It leaves
 * the frame there and goes on at fault_entry in ring 3 with all registers as they were.
 */
	.macro	vector number
	.balign	PV_VECTOR_SIZE
	.if	(\number != 8) && (\number < 10 || \number > 14) && (\number != 17) && (\number != 21) && (\number != 29) && (\number != 30)
	push	$0
	.endif
	push	$\number
	.if	\number == 3
	jmp	breakpoint
	.else
	jmp	to_ring3
	.endif
	.endm

	.balign	PV_VECTOR_SIZE
	.globl vectors
vectors:
	.set	number, 0
	.rept	PV_VECTORS
	vector	number
	.set	number, number + 1
	.endr

breakpoint:			/* tlb_flush()'s, or the program's own */
	push	%rax
	lea	flush_done(%rip), %rax
	cmp	%rax, 24(%rsp)
	jne	1f
	mov	%cr3, %rax
	mov	%rax, %cr3
	pop	%rax
	add	$16, %rsp
	iretq
1:	pop	%rax
to_ring3:
	push	%rax			/* only ring 0 can read CR2 */
	mov	%cr2, %rax
	mov	%rax, %gs:CPU_FAULT_ADDRESS
	pop	%rax
	push	$PV_USER_DATA
	push	%gs:CPU_FAULT_STACK
	push	$2
	push	$PV_USER_CODE
	push	fault_entry_address(%rip)
	iretq

	.globl tlb_flush
tlb_flush:			/* of this CPU */
	int3
flush_done:
	ret

/* The frame lies at the upper end of the exception stack: vector, error code, rip, cs, rflags, rsp,
 * ss.  Copy it before anything can fault again. */
fault_entry:
	sub	$8, %rsp		/* vector */
	sub	$48, %rsp		/* orig_rax: error code; rip, cs, rflags, rsp, ss */
	save_general
	mov	%gs:CPU_SELF, %rsi
	add	$PV_CPU_TSS + 0x1000 + 0x1000 - 56, %rsi	/* the exception stack's last 56 bytes */
	cld
	mov	%rsp, %rdi
	call	fault_collect		/* where the struct regs is now */
	mov	%rax, %rsp
	mov	%rax, %rdi
	mov	%rdx, %rsi
	call	fault
	test	%eax, %eax
	jz	restore_all
	restore_general			/* back to where the library OS itself was */
	add	$8, %rsp
	iretq

	.section .rodata
fault_entry_address:
	.quad	fault_entry

/* ------------------------------------------------------------------------------- switching */
	.text
/* void switch_stack(u64 *save_rsp, u64 rsp): go on where another thread called this. */
	.globl switch_stack
switch_stack:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, (%rdi)
	mov	%rsi, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

/* A CPU without a thread goes on here, on a stack made by cpu_idler_create(). */
	.globl idle_entry
idle_entry:
	call	idle_main
	ud2

/* long host_call(a, b, c, d, e, f, slot): store to the call page; see abi.h. */
	.globl host_call_at
host_call_at:
	mov	8(%rsp), %rax
	mov	%rcx, %r10
	mov	%rax, (%rax)
	ret

	.section .note.GNU-stack, "", @progbits
