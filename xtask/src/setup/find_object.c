/* What GCC's unwinder (since 12) asks glibc for, made of what musl has: the object that an address lies in. */

#define _GNU_SOURCE
#include <link.h>
#include <stddef.h>

/* As in glibc's dlfcn.h, where DLFO_STRUCT_HAS_EH_DBASE is 0. */
struct dl_find_object {
	unsigned long long flags;
	void *map_start;
	void *map_end;
	struct link_map *link_map;
	void *eh_frame;
	unsigned long long reserved[7];
};

struct search {
	ElfW(Addr) address;
	struct dl_find_object *result;
};

static int look(struct dl_phdr_info *object, size_t size, void *data)
{
	struct search *search = data;
	struct dl_find_object *result = search->result;
	int is_here = 0;

	(void)size;
	result->eh_frame = NULL;
	for (int i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
		ElfW(Addr) start = object->dlpi_addr + segment->p_vaddr;

		if (segment->p_type == PT_GNU_EH_FRAME)
			result->eh_frame = (void *)start;
		if (segment->p_type == PT_LOAD && search->address - start < segment->p_memsz) {
			is_here = 1;
			result->map_start = (void *)start;
			result->map_end = (void *)(start + segment->p_memsz);
		}
	}
	return is_here && result->eh_frame;
}

int _dl_find_object(void *address, struct dl_find_object *result)
{
	struct search search = { (ElfW(Addr))address, result };

	return dl_iterate_phdr(look, &search) ? 0 : -1;
}
