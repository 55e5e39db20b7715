/*
 * The contract between the library OS and the VMM, for both compilers: C includes this file, and
 * tools/genabi.py makes pyrovm/abi/libos.py of it.
 *
 * A guest starts with everything set up by the VMM: long mode, page tables, GDT, IDT, TSS, in ring 3.
 * It asks the VMM for something by storing 8 bytes (any value) at PV_CALL_PAGE + 8 * number, which is
 * no memory: the arguments are in RDI, RSI, RDX, R10, R8, R9, the result comes back in RAX, negative
 * errno values for failures.  All addresses handed over are guest-physical; every length is bounded
 * here; whatever is out of bounds fails with EINVAL or EFAULT and never with more than that.
 */
#ifndef PYROVM_LIBOS_ABI_H
#define PYROVM_LIBOS_ABI_H

#include <stdint.h>

#define PV_MAGIC 0x534f4c4f52595000UL /* "\0PYROLOS" */
#define PV_VERSION 1

/* ---------------------------------------------------------------- guest-physical addresses
 *
 *      0                   RAM: what the VMM prepares, up to free_start, then the library OS's
 *      PV_RAM_HUGE         what the host may give in pages of 2 MiB, up to the end of RAM
 *      PV_IMAGE_GPA        the root image (EROFS), read-only, the host's page cache
 *      PV_LIBOS_GPA        the library OS's file, read-only likewise
 *      PV_CALL_GPA         no memory: hypercalls
 *
 * All of it is mapped at PV_PHYSMAP + address; the library OS runs at PV_LIBOS_VA.
 */
#define PV_RAM_MAX    0x3000000000UL /* 192 GiB */
#define PV_RAM_HUGE   0x200000UL
#define PV_LIBOS_GPA  0x3000000000UL
#define PV_IMAGE_GPA  0x4000000000UL /* 256 GiB */
#define PV_IMAGE_MAX  0x2000000000UL
#define PV_CALL_GPA   0x7000000000UL
#define PV_PHYSMAP    0x3e0000000000UL
#define PV_LIBOS_VA   0x3f0000000000UL
#define PV_LIBOS_SIZE 0x40000000UL /* what may be mapped there */
#define PV_CALL_PAGE  (PV_PHYSMAP + PV_CALL_GPA)

/* ------------------------------------------------------------------------- selectors, tables */
#define PV_KERNEL_CODE 0x10
#define PV_KERNEL_DATA 0x18
#define PV_USER_DATA   0x2b
#define PV_USER_CODE   0x33
#define PV_TSS         0x40

/* ---------------------------------------------------------------------------------- calls */
enum pv_call {
	PV_EXIT = 0,    /* in: status (0-255, or PV_EXIT_SIGNAL + number); does not return */
	PV_READ = 1,    /* in: handle, iovec gpa, iovec count, offset or -1; out: bytes, 0 at the end */
	PV_WRITE = 2,   /* in: handle, iovec gpa, iovec count, offset or -1; out: bytes */
	PV_WAIT = 3,    /* in: timeout (ns, ~0 for ever), arms gpa, arms count, events gpa, events size
	                   (0: only until the timeout, or this vCPU's bell rings); out: number of events */
	PV_DISCARD = 4, /* in: gpa, length: pages whose contents are not needed any more */
	PV_SOCKET = 5,  /* in: operation, handle, argument gpa, argument length; see below */
	PV_FILE = 6,    /* in: operation, handle, argument gpa, argument length; see below */
	PV_CLOSE = 7,   /* in: handle */
	PV_INTERRUPT = 8, /* in: a bit for each vCPU, PV_TICKING: they are interrupted every PV_TICK_NS
	                     from now on, no others; PV_NOW: once, and started if they do not run yet;
	                     PV_STOPPED: this returns only when they have left the program */
	PV_PANIC = 9,   /* in: text gpa, length: the library OS gives up; does not return */
	PV_READY = 10,  /* the program says that it may be branched here; in each branch this returns */
	PV_TERMINAL = 11, /* in: operation, handle (PV_STDIN to PV_STDERR), gpa of a struct pv_terminal;
	                     fails with ENOTTY where that is no terminal */
	PV_CALLS = 12
};

enum pv_interrupt { PV_TICKING = 0, PV_NOW = 1, PV_STOPPED = 2 };

/* A store to PV_CALL_PAGE + PV_BELL + 8 * n, which is no call and does not leave the guest, rings
 * vCPU n's bell: its PV_WAIT ends, or its next one.  Only where there are several vCPUs. */
#define PV_BELL 0x800

#define PV_EXIT_SIGNAL 0x100
#define PV_TICK_NS     10000000

/* Handles that are there from the start; others come from PV_SOCKET and PV_FILE. */
#define PV_STDIN      0
#define PV_STDOUT     1
#define PV_STDERR     2
#define PV_LOG        3 /* traces and remarks of the library OS itself */
#define PV_HANDLE_MAX 65536

struct pv_iovec {
	uint64_t gpa;
	uint64_t length;
};
#define PV_IOV_MAX 64
#define PV_IO_MAX  0x100000 /* bytes in all of one call */

/* PV_WAIT: what to wait for (once: an event ends it), and what has happened. */
struct pv_event {
	uint32_t handle;
	uint32_t events; /* POLLIN, POLLOUT, POLLERR, POLLHUP, POLLRDHUP as poll(2) has them */
};
#define PV_ARMS_MAX 256
#define PV_EVENTS_MAX 256
/* The handle of an event that is a signal for the program: its number is in events. */
#define PV_SIGNAL_HANDLE 0xffffffffu

/* PV_TERMINAL: the user's terminal, as tcgetattr(3), tcsetattr(3) and tcflush(3) have it.  What a
 * program has set is undone when it has ended. */
enum pv_terminal_operation {
	PV_TERMINAL_GET = 0, /* out: all of it */
	PV_TERMINAL_SET = 1, /* in: how, settings; c_cflag stays as it is */
	PV_TERMINAL_FLUSH = 2, /* in: how */
	PV_TERMINAL_OPERATIONS = 3
};
struct pv_terminal {
	uint32_t how; /* TCSANOW, TCSADRAIN, TCSAFLUSH; TCIFLUSH, TCOFLUSH, TCIOFLUSH */
	uint32_t iflag, oflag, cflag, lflag;
	uint16_t rows, columns;
	uint8_t cc[20]; /* NCCS are 19 */
};

/* PV_SOCKET: sockets are the host's, opened where the VM's policy allows it; always non-blocking:
 * what would block fails with EAGAIN (EINPROGRESS for connect), and PV_WAIT tells when to go on.
 * Addresses are the host's struct sockaddr_in, _in6; AF_UNIX stays within the guest. */
enum pv_socket_operation {
	PV_SOCKET_OPEN = 0, /* argument: family, type, protocol; out: handle */
	PV_SOCKET_BIND = 1, /* address */
	PV_SOCKET_LISTEN = 2, /* backlog */
	PV_SOCKET_ACCEPT = 3, /* address out; out: handle */
	PV_SOCKET_CONNECT = 4, /* address */
	PV_SOCKET_SHUTDOWN = 5, /* how */
	PV_SOCKET_NAME = 6, /* address out */
	PV_SOCKET_PEER = 7, /* address out */
	PV_SOCKET_SETOPT = 8, /* level, name, value */
	PV_SOCKET_GETOPT = 9, /* level, name, value out */
	PV_SOCKET_SEND = 10, /* address (length 0: none), flags, iovec */
	PV_SOCKET_RECEIVE = 11, /* address out, flags, iovec */
	PV_SOCKET_PENDING = 12, /* out: bytes to be read (FIONREAD); a = 1: not yet sent (TIOCOUTQ) */
	PV_SOCKET_OPERATIONS = 13
};
struct pv_socket_args {
	int32_t a; /* family, backlog, how, level */
	int32_t b; /* type, name, message flags in; message flags out */
	int32_t c; /* protocol */
	uint32_t length; /* of data: address or option, in and out */
	uint64_t iov_gpa; /* SEND, RECEIVE */
	uint64_t iov_count;
	uint8_t data[128];
};

/* PV_FILE: folders of the host that the user passed with -v; share number n is the n-th of them.
 * Paths are relative to the share, and resolved beneath it (openat2 RESOLVE_BENEATH). */
enum pv_file_operation {
	PV_FILE_OPEN = 0, /* handle: share; flags, mode, path; out: handle */
	PV_FILE_STAT = 1, /* handle: share; path; out in stat */
	PV_FILE_FSTAT = 2, /* handle: open file; out in stat */
	PV_FILE_READDIR = 3, /* handle: open folder; offset; out: bytes of linux_dirent64 at gpa */
	PV_FILE_MKDIR = 4,
	PV_FILE_UNLINK = 5, /* flags: AT_REMOVEDIR */
	PV_FILE_RENAME = 6, /* path, second path */
	PV_FILE_SYMLINK = 7, /* path, second path: the target */
	PV_FILE_READLINK = 8, /* path; out: bytes at gpa */
	PV_FILE_TRUNCATE = 9, /* handle: open file; offset */
	PV_FILE_SYNC = 10, /* handle: open file */
	PV_FILE_CHMOD = 11,
	PV_FILE_UTIMENS = 12,
	PV_FILE_LINK = 13,
	PV_FILE_OPERATIONS = 14
};
#define PV_PATH_MAX 4096
struct pv_stat {
	uint64_t ino, size, blocks;
	uint32_t mode, nlink, uid, gid;
	int64_t atime_ns, mtime_ns, ctime_ns;
};
struct pv_file_args {
	uint64_t path_gpa, path2_gpa; /* not terminated; page boundaries as in guest-physical memory */
	uint32_t path_length, path2_length;
	uint32_t flags, mode;
	uint64_t offset;
	uint64_t gpa, length; /* where READDIR and READLINK put what they find */
	int64_t atime_ns, mtime_ns;
	struct pv_stat stat;
};

/* --------------------------------------------------------------------------- boot information
 *
 * At the address in RDI at the start; the VMM goes on writing what is marked "live".
 */
enum pv_engine { PV_ENGINE_HARDWARE = 1, PV_ENGINE_SOFTWARE = 2, PV_ENGINE_UNICORN = 3 };

#define PV_FLAG_TRACE 1 /* print system calls on PV_LOG */
#define PV_FLAG_TTY_IN 2 /* standard input is a terminal, and so on */
#define PV_FLAG_TTY_OUT 4
#define PV_FLAG_TTY_ERR 8
#define PV_FLAG_WRITABLE_EXEC 16 /* no W^X: pages may be writable and executable at once */

struct pv_share {
	uint32_t path_offset; /* in the strings: where it is mounted */
	uint32_t read_only;
};
#define PV_SHARES_MAX 16

struct pv_boot {
	uint64_t magic;
	uint32_t version;
	uint32_t size; /* of this structure */
	uint32_t engine;
	uint32_t vcpu_count;
	uint64_t flags;

	uint64_t ram_size;
	uint64_t free_start; /* RAM from here on is the library OS's, zero */
	uint64_t image_size; /* 0: no image */
	uint64_t libos_file_size;
	uint64_t page_table_gpa; /* CR3 */

	/* Clocks: ns = base + (tsc - tsc_base) * 10^6 / tsc_khz; where tsc_base is 0, the library OS
	 * takes the TSC when it first looks.  Live, guarded by clock_sequence, odd while changed. */
	uint32_t clock_sequence;
	uint32_t generation; /* of the VM: another number in each branch of it and after each restore */
	uint64_t tsc_khz;
	uint64_t tsc_base;
	uint64_t monotonic_base_ns;
	uint64_t realtime_base_ns;

	uint8_t seed[64]; /* random bytes, other ones in each VM */

	/* The CPU as the program may use it. */
	uint64_t xcr0; /* 0: no XSAVE, use FXSAVE */
	uint32_t xsave_size;
	uint32_t hwcap; /* CPUID 1 EDX, AT_HWCAP */
	uint32_t hwcap2; /* AT_HWCAP2: bit 1 FSGSBASE */
	uint32_t uid, gid;
	uint32_t umask;

	/* NUL-terminated strings, one after the other, at strings_gpa. */
	uint64_t strings_gpa;
	uint32_t strings_size;
	uint32_t argc, argv_offset; /* argc strings from there on */
	uint32_t envc, env_offset;
	uint32_t exe_offset; /* path of the program within the image */
	uint32_t cwd_offset;
	uint32_t hostname_offset;
	uint64_t stack_size; /* of the first thread, bytes */

	uint32_t share_count;
	uint32_t reserved[3];
	struct pv_share shares[PV_SHARES_MAX];

	/* What /dev/pyrovm says: text, other one in each branch.  Live. */
	uint64_t news_gpa;
	uint32_t news_size, news_max; /* bytes: there now, and at most */
};
#define PV_NEWS_MAX 16384
#define PV_GENERATION_FIRST 1 /* of a VM that was neither branched nor restored */

/* ------------------------------------------------------------------------------ per-vCPU area
 *
 * GS points to it.  The VMM interrupts a vCPU by its registers: it stops it, and where RIP is
 * outside of the library OS's code it saves RIP, RSP and RFLAGS here, and lets it go on at
 * pv_header.upcall_entry with RSP = kernel_stack.  Where RIP is between return_start and return_end,
 * on the way back to the program behind the last look at the pending bits, it goes on at
 * return_entry.  In any case the VMM sets pending bits, while the vCPU is stopped; otherwise only the
 * vCPU itself changes them.  Signals are told to vCPU 0.
 *
 * vCPUs start at pv_header.entry: 0 by itself, the others when PV_INTERRUPT first names them.
 */
#define PV_PENDING_TICK 1
#define PV_PENDING_SIGNAL 2 /* signals is not 0 */
#define PV_PENDING_BRANCH 4 /* generation is another one: this VM is a branch, or was restored */
#define PV_PENDING_INTERRUPT 8 /* by another vCPU */

struct pv_cpu {
	uint64_t self; /* address of this structure */
	uint64_t kernel_stack; /* the current thread's: its upper end */
	uint64_t fault_stack; /* the upper end of one for faults of the library OS itself */
	uint64_t user_rip, user_rsp, user_rflags;
	uint64_t scratch;
	uint64_t current; /* the thread */
	uint32_t pending; /* live */
	uint32_t number;
	uint64_t signals; /* live: bit n-1 is signal n, to the process */
	uint64_t fault_address; /* CR2, of the last exception */
};

/* The library OS's file starts with this; it is mapped at PV_LIBOS_VA, code and constants from the
 * file, data copied into RAM, with zeros behind it.  Offsets are page-aligned. */
#define PV_HEADER_MAGIC 0x524445484f525950UL /* "PYROHEDR" */
struct pv_header {
	uint64_t magic;
	uint32_t version;
	uint32_t size;
	uint64_t text_end, rodata_end, data_end, bss_end; /* from the start of the file, or of memory */
	/* Addresses. */
	uint64_t entry; /* RDI: struct pv_boot, RSP: a stack */
	uint64_t syscall_entry; /* for LSTAR */
	uint64_t upcall_entry;
	uint64_t vectors; /* for the IDT: PV_VECTORS stubs of PV_VECTOR_SIZE bytes */
	uint64_t fault_entry; /* where the stubs go on in ring 3, for VMMs that do the stubs' work */
	uint64_t return_start, return_end, return_entry;
};
#define PV_VECTORS 32
#define PV_VECTOR_SIZE 16

/* Where the VMM puts its tables, all below free_start, which follows from the number of vCPUs. */
#define PV_GDT_GPA   0x1000
#define PV_IDT_GPA   0x2000
#define PV_BOOT_GPA  0x4000
#define PV_CPU_GPA   0x8000 /* vCPU n: from PV_CPU_GPA + n * PV_CPU_STRIDE on */
#define PV_CPU_STRIDE 0x8000
#define PV_CPU_TSS    0x1000 /* offsets: TSS, exception stack (IST 1), fault stack; 0 is struct pv_cpu */
#define PV_CPU_IST    0x2000
#define PV_CPU_FAULT  0x3000 /* to PV_CPU_STRIDE; the stack at the start, too */
#define PV_CPU_MAX    8

#endif
