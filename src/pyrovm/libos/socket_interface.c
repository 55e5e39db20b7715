/* The network interfaces that programs see: lo and eth0; with ioctl(2), as netdevice(7) has them.
 *
 * There is no network within the guest; the addresses are those under which the VMM shows it the
 * world (pyrovm/unikernel/sockets.py). */
#include <linux/sockios.h>

#include "interface.h"
#include "socket.h"

#define NAME_SIZE 16
struct ifreq { /* <net/if.h>, which the kernel's header hides behind libc's */
	char name[NAME_SIZE];
	union {
		struct sockaddr_in address;
		struct {
			u16 family;
			u8 bytes[14];
		} hardware;
		int number;
		short flags;
		u8 size[24];
	};
};

struct ifconf {
	int length;
	struct ifreq *at;
};

const struct interface interfaces[INTERFACES] = {
	{ "lo", 0x7f000001, 0xff000000, 0, 8, IFF_UP | IFF_LOOPBACK | IFF_RUNNING, ARPHRD_LOOPBACK, 65536,
	  { [15] = 1 }, 128, { 0 } },
	{ "eth0", 0xcb007102, 0xffffff00, 0xcb0071ff, 24, IFF_UP | IFF_BROADCAST | IFF_RUNNING | IFF_MULTICAST,
	  ARPHRD_ETHER, 1500, { 0x20, 0x01, 0x0d, 0xb8, [15] = 2 }, 64, { 2, 'p', 'y', 'r', 'o', 1 } },
};

static void put_address(struct ifreq *r, u32 address)
{
	r->address = (struct sockaddr_in){ .sin_family = AF_INET };
	r->address.sin_addr.s_addr = __builtin_bswap32(address);
}

static long list(struct ifconf *c)
{
	int n = 0;

	if (user_check(c, sizeof(*c), true))
		return -EFAULT;
	if (!c->at) {
		c->length = (int)(INTERFACES * sizeof(struct ifreq));
		return 0;
	}
	for (u32 i = 0; i < INTERFACES; i++) {
		struct ifreq r = { 0 };

		if (c->length < 0 || (u32)c->length < (i + 1) * sizeof(r))
			break;
		format(r.name, NAME_SIZE, "%s", interfaces[i].name);
		put_address(&r, interfaces[i].address);
		if (user_check(&c->at[i], sizeof(r), true))
			return -EFAULT;
		c->at[i] = r;
		n++;
	}
	if (user_check(c, sizeof(*c), true))
		return -EFAULT;
	c->length = n * (int)sizeof(struct ifreq);
	return 0;
}

/* Answers about `r`, in place. */
static long answer(struct ifreq *r, unsigned request)
{
	const struct interface *found = NULL;

	for (u32 i = 0; i < INTERFACES; i++)
		if (request == SIOCGIFNAME ? r->number == (int)i + 1
					   : !strncmp(r->name, interfaces[i].name, NAME_SIZE))
			found = &interfaces[i];
	if (!found)
		return -ENODEV;
	switch (request) {
	case SIOCGIFNAME:
		format(r->name, NAME_SIZE, "%s", found->name);
		return 0;
	case SIOCGIFINDEX:
		r->number = (int)(found - interfaces) + 1;
		return 0;
	case SIOCGIFFLAGS:
		r->flags = found->flags;
		return 0;
	case SIOCGIFADDR:
	case SIOCGIFDSTADDR:
		put_address(r, found->address);
		return 0;
	case SIOCGIFNETMASK:
		put_address(r, found->mask);
		return 0;
	case SIOCGIFBRDADDR:
		put_address(r, found->broadcast);
		return 0;
	case SIOCGIFMTU:
		r->number = found->mtu;
		return 0;
	case SIOCGIFMETRIC:
		r->number = 0;
		return 0;
	default: /* SIOCGIFHWADDR */
		memset(&r->hardware, 0, sizeof(r->hardware));
		r->hardware.family = found->hardware;
		if (found->hardware == ARPHRD_ETHER)
			memcpy(r->hardware.bytes, found->hardware_address, 6);
		return 0;
	}
}

long interface_ioctl(unsigned request, u64 argument)
{
	struct ifreq *at = (struct ifreq *)argument, r;
	long error;

	switch (request) {
	case SIOCGIFCONF:
		return list((struct ifconf *)argument);
	case SIOCGIFNAME:
	case SIOCGIFINDEX:
	case SIOCGIFFLAGS:
	case SIOCGIFADDR:
	case SIOCGIFDSTADDR:
	case SIOCGIFNETMASK:
	case SIOCGIFBRDADDR:
	case SIOCGIFMTU:
	case SIOCGIFMETRIC:
	case SIOCGIFHWADDR:
		break;
	case SIOCSIFADDR:
	case SIOCSIFFLAGS:
	case SIOCSIFMTU:
		return -EPERM;
	default:
		return -ENOTTY;
	}
	if (user_check(at, sizeof(r), true))
		return -EFAULT;
	r = *at;
	error = answer(&r, request);
	if (!error)
		*at = r;
	return error;
}
