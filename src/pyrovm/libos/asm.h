/* What entry.S needs of abi.h, which is C; trap.c checks that the numbers are right. */
#define PV_HEADER_MAGIC 0x524445484f525950
#define PV_USER_DATA 0x2b
#define PV_USER_CODE 0x33
#define PV_CPU_TSS 0x1000
#define PV_VECTORS 32
#define PV_VECTOR_SIZE 16
#define CPU_SELF 0
#define CPU_KERNEL_STACK 8
#define CPU_FAULT_STACK 16
#define CPU_USER_RIP 24
#define CPU_USER_RSP 32
#define CPU_USER_RFLAGS 40
#define CPU_PENDING 64
#define CPU_NUMBER 68
#define CPU_FAULT_ADDRESS 80
#define REGS_SIZE 168
