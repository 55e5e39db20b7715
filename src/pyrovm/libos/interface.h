/* The network interfaces that programs see. */
#ifndef PYROVM_LIBOS_INTERFACE_H
#define PYROVM_LIBOS_INTERFACE_H

#include "os.h"

#define IFF_UP 0x1
#define IFF_BROADCAST 0x2
#define IFF_LOOPBACK 0x8
#define IFF_RUNNING 0x40
#define IFF_MULTICAST 0x1000
#define ARPHRD_ETHER 1
#define ARPHRD_LOOPBACK 772
#define INTERFACES 2

struct interface { /* number n of the table has the index n + 1 */
	const char *name;
	u32 address, mask, broadcast; /* IPv4, of this byte order */
	u8 prefix; /* the mask's bits */
	short flags;
	u16 hardware; /* ARPHRD_* */
	int mtu;
	u8 address6[16];
	u8 prefix6;
	u8 hardware_address[6]; /* locally administered */
};
extern const struct interface interfaces[INTERFACES]; /* socket_interface.c */

#endif
