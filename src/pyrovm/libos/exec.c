/*
 * Loading the program: an ELF file of the image, its interpreter if it names one, and the stack as
 * Linux hands it over (System V ABI for AMD64, 3.4.1).
 */
#include "exec.h"

#include "calls.h"
#include "file.h"
#include "vma.h"

#define INTERPRETER_BASE 0 /* wherever there is room */
#define PIE_BASE 0x555555554000ULL
#define HEADERS_MAX 64
#define STACK_AT_ONCE (128 * 1024UL) /* mapped before the program asks */

struct loaded {
	u64 entry, bias, headers, end;
	unsigned header_count;
	char interpreter[256];
};

static const char *string_at(u32 offset)
{
	return (const char *)phys_to_virt(boot_info->strings_gpa) + offset;
}

static void refuse(const char *path, const char *why)
{
	log_line("%s: cannot run %s: %s", program_name, path, why);
	process_exit(126);
}

static struct file *open_program(const char *path)
{
	long error;
	struct file *f = file_open(path, O_RDONLY, 0, &error);

	if (!f)
		refuse(path, error == -ENOENT ? "no such file in the image" : "it cannot be opened");
	return f;
}

static void read_exactly(struct file *f, const char *path, void *to, size_t n, u64 offset)
{
	if (file_read_at(f, to, n, offset) != (long)n)
		refuse(path, "the file is truncated");
}

static void check_header(const Elf64_Ehdr *h, const char *path)
{
	if (memcmp(h->e_ident, ELFMAG, SELFMAG))
		refuse(path, "it is no ELF program");
	if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_machine != EM_X86_64)
		refuse(path, "it is for another architecture than x86-64");
	if ((h->e_type != ET_EXEC && h->e_type != ET_DYN) || h->e_phentsize != sizeof(Elf64_Phdr) ||
	    h->e_phnum == 0 || h->e_phnum > HEADERS_MAX)
		refuse(path, "its ELF header is damaged");
}

static int prot_of(const Elf64_Phdr *p)
{
	return (p->p_flags & PF_R ? PROT_READ : 0) | (p->p_flags & PF_W ? PROT_WRITE : 0) |
	       (p->p_flags & PF_X ? PROT_EXEC : 0);
}

static void map_segment(struct file *f, const char *path, const Elf64_Phdr *p, u64 bias)
{
	u64 start = ALIGN_DOWN(p->p_vaddr + bias, PAGE_SIZE), skip = (p->p_vaddr + bias) & PAGE_MASK;
	u64 file_end = p->p_vaddr + bias + p->p_filesz, end = p->p_vaddr + bias + p->p_memsz;
	u64 file_pages = ALIGN_UP(file_end, PAGE_SIZE);
	long result = 0;

	if (p->p_filesz > p->p_memsz || ((p->p_vaddr ^ p->p_offset) & PAGE_MASK) || end < start ||
	    p->p_offset + p->p_filesz < p->p_offset || p->p_offset + p->p_filesz > file_size(f))
		refuse(path, "a segment lies outside of the file");
	if (p->p_filesz)
		result = space_map(start, p->p_filesz + skip, prot_of(p), MAP_PRIVATE | MAP_FIXED, f,
				   p->p_offset - skip);
	else
		file_pages = start;
	if (result >= 0 && end > file_pages)
		result = space_map(file_pages, end - file_pages, prot_of(p),
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0);
	if (result < 0)
		refuse(path, result == -ENOMEM ? "it does not fit into memory; give it more with --memory"
					       : "a segment cannot be mapped");
	/* Zeros from the file's end to the page's. */
	if (p->p_filesz && p->p_flags & PF_W && end > file_end && file_pages > file_end) {
		if (user_check((void *)file_end, file_pages - file_end, true))
			refuse(path, "a segment cannot be written");
		memset((void *)file_end, 0, file_pages - file_end);
	}
}

/* Where to load what says nothing of it: where huge pages can be used, if it is long enough. */
static u64 place(struct file *f, const Elf64_Phdr *first, u64 length)
{
	u64 gpa;

	if (length < HUGE_SIZE || !f->ops->page ||
	    f->ops->page(f, ALIGN_DOWN(first->p_offset, PAGE_SIZE), false, &gpa) || gpa < PV_IMAGE_GPA)
		return PIE_BASE;
	return ALIGN_UP(PIE_BASE, HUGE_SIZE) + (gpa & (HUGE_SIZE - 1));
}

static void load(const char *path, u64 base, struct loaded *out)
{
	static Elf64_Phdr headers[HEADERS_MAX];
	struct file *f = open_program(path);
	Elf64_Ehdr header;
	const Elf64_Phdr *first = NULL;
	u64 low = ~0ULL, high = 0;

	memset(out, 0, sizeof(*out));
	read_exactly(f, path, &header, sizeof(header), 0);
	check_header(&header, path);
	read_exactly(f, path, headers, header.e_phnum * sizeof(headers[0]), header.e_phoff);
	for (unsigned i = 0; i < header.e_phnum; i++) {
		const Elf64_Phdr *p = &headers[i];

		if (p->p_type == PT_INTERP) {
			if (p->p_filesz >= sizeof(out->interpreter))
				refuse(path, "the name of its interpreter is too long");
			read_exactly(f, path, out->interpreter, p->p_filesz, p->p_offset);
		}
		if (p->p_type != PT_LOAD || !p->p_memsz)
			continue;
		if (p->p_vaddr >= PV_USER_LIMIT || p->p_memsz >= PV_USER_LIMIT)
			refuse(path, "a segment lies outside of the address space");
		if (p->p_vaddr < low)
			first = p;
		low = MIN(low, ALIGN_DOWN(p->p_vaddr, PAGE_SIZE));
		high = MAX(high, p->p_vaddr + p->p_memsz);
	}
	if (low >= high)
		refuse(path, "it has nothing to load");
	if (header.e_type == ET_DYN) {
		u64 where = base == PIE_BASE ? place(f, first, high - low) : base;
		long at = space_map(where, high - low, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, 0);

		if (at < 0)
			refuse(path, "there is no room for it");
		out->bias = (u64)at - low;
	} else if (!vma_range_is_free(low, high) || low < USER_START) {
		refuse(path, "its addresses are not free");
	}
	for (unsigned i = 0; i < header.e_phnum; i++) {
		const Elf64_Phdr *p = &headers[i];

		if (p->p_type == PT_LOAD && p->p_memsz)
			map_segment(f, path, p, out->bias);
		if (p->p_type == PT_LOAD && p->p_offset <= header.e_phoff &&
		    header.e_phoff < p->p_offset + p->p_filesz)
			out->headers = p->p_vaddr + out->bias + (header.e_phoff - p->p_offset);
	}
	out->entry = header.e_entry + out->bias;
	out->end = high + out->bias;
	out->header_count = header.e_phnum;
	file_put(f);
}

/* ---------------------------------------------------------------------------------- the stack */

struct stack {
	u64 at; /* grows down */
};

static u64 push_bytes(struct stack *s, const void *bytes, size_t n)
{
	s->at -= n;
	memcpy((void *)s->at, bytes, n);
	return s->at;
}

static u64 push_string(struct stack *s, const char *text)
{
	return push_bytes(s, text, strlen(text) + 1);
}

/* The library of vdso/, which vdso.S has within the library OS. */
static u64 map_vdso(void)
{
	extern const char vdso_start[], vdso_end[];
	u64 at = space_map_copy(vdso_start, (u64)(vdso_end - vdso_start), PROT_READ | PROT_EXEC, "[vdso]");

	if (!at)
		process_out_of_memory();
	return at;
}

static u64 make_stack(const struct loaded *program, u64 interpreter_base)
{
	u64 size = ALIGN_UP(boot_info->stack_size, PAGE_SIZE), top = USER_END - PAGE_SIZE, *out;
	u32 argc = boot_info->argc, envc = boot_info->envc;
	const char *arg = string_at(boot_info->argv_offset), *env = string_at(boot_info->env_offset);
	u64 *words = kalloc((argc + envc + 3) * sizeof(u64));
	struct stack s = { top };
	u8 random[16];
	u64 exe, platform, random_at, vdso = map_vdso();
	unsigned n = 0;

	if (!words || space_map(top - size, size, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, NULL, 0) < 0)
		process_out_of_memory();
	vma_at(top - size)->name = "[stack]";
	limits[RLIMIT_STACK].rlim_cur = size;
	if (boot_info->strings_size + PAGE_SIZE > size)
		refuse(string_at(boot_info->exe_offset), "its arguments do not fit into its stack");
	if (user_check((void *)(top - MIN(size, STACK_AT_ONCE + boot_info->strings_size)),
		       MIN(size, STACK_AT_ONCE + boot_info->strings_size), true))
		process_out_of_memory();

	random_bytes(random, sizeof(random));
	exe = push_string(&s, string_at(boot_info->exe_offset));
	platform = push_string(&s, "x86_64");
	for (u32 i = 0; i < argc; i++, arg += strlen(arg) + 1)
		words[n++] = push_string(&s, arg);
	words[n++] = 0;
	for (u32 i = 0; i < envc; i++, env += strlen(env) + 1)
		words[n++] = push_string(&s, env);
	words[n++] = 0;
	random_at = push_bytes(&s, random, sizeof(random));

	u64 auxv[][2] = {
		{ AT_SYSINFO_EHDR, vdso },
		{ AT_PHDR, program->headers },
		{ AT_PHENT, sizeof(Elf64_Phdr) },
		{ AT_PHNUM, program->header_count },
		{ AT_PAGESZ, PAGE_SIZE },
		{ AT_BASE, interpreter_base },
		{ AT_FLAGS, 0 },
		{ AT_ENTRY, program->entry },
		{ AT_UID, boot_info->uid },
		{ AT_EUID, boot_info->uid },
		{ AT_GID, boot_info->gid },
		{ AT_EGID, boot_info->gid },
		{ AT_SECURE, 0 },
		{ AT_CLKTCK, 100 },
		{ AT_HWCAP, boot_info->hwcap },
		{ AT_HWCAP2, boot_info->hwcap2 },
		{ AT_PLATFORM, platform },
		{ AT_RANDOM, random_at },
		{ AT_EXECFN, exe },
		{ AT_MINSIGSTKSZ, fpu_frame_size() },
		{ AT_NULL, 0 },
	};
	s.at = ALIGN_DOWN(s.at - sizeof(auxv) - (n + 1) * 8, 16);
	out = (u64 *)s.at;
	*out++ = argc;
	memcpy(out, words, n * 8);
	memcpy(out + n, auxv, sizeof(auxv));
	kfree(words);
	return s.at;
}

void exec_program(struct regs *regs)
{
	const char *path = string_at(boot_info->exe_offset), *slash = strrchr(path, '/');
	static struct loaded program, interpreter;

	program_name = slash ? slash + 1 : path;
	format(current()->name, sizeof(current()->name), "%s", program_name);
	load(path, PIE_BASE, &program);
	if (program.interpreter[0])
		load(program.interpreter, INTERPRETER_BASE, &interpreter);
	space_init(program.end);
	memset(regs, 0, sizeof(*regs));
	regs->rsp = make_stack(&program, program.interpreter[0] ? interpreter.bias : 0);
	regs->rip = program.interpreter[0] ? interpreter.entry : program.entry;
	regs->rflags = 0x202;
	regs->cs = PV_USER_CODE;
	regs->ss = PV_USER_DATA;
}
