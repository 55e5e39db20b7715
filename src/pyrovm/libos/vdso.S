/* The library of vdso/, whole; exec.c maps a copy of it into the program. */
	.section .rodata.vdso, "a"
	.balign 16
	.globl vdso_start, vdso_end
vdso_start:
	.incbin "vdso.so"
vdso_end:
	.section .note.GNU-stack, "", @progbits
