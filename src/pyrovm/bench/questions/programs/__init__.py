"""What does it cost to run a Linux program in a VM of its own, without a Linux kernel?

On this machine's KVM, time on the wall, the program in its VM and as a plain process by turns.  On
a software-only KVM (kvm-pvm) the instruction SYSCALL itself takes 1.1 us, which is in every system
call's figure.

* A static hello's start: until the first byte it writes has arrived.  The VMM's own part lasts from
  opening /dev/kvm to the guest's first instruction, the guest's from there to main; the program
  reads the TSC in main, the library OS when it begins, and the host's clock is compared with the
  TSC before and after.
* Loops: the median of 101 slices of some milliseconds, so that it is not that of what else the
  machine had to do.  The ratio is that of these medians.
* For comparison, gVisor as others have measured and published it, beside plain containers (Young
  et al., "The True Cost of Containing: A gVisor Case Study", HotCloud 2019): simple system calls at
  least 2.2 times a container's time, reading small files 11 times, opening and closing files of an
  outer tmpfs 216 times.  Where runsc is installed, the topic of containers runs it, too.
* Two vCPUs: work without system calls by one thread, then halved between two.
* Servers: wrk on the same machine, 8 connections; the VM's ports are published by the VMM.
* Memory: /proc/PID/smaps of the VMM's process, its guest and all.  Private is what would be free
  again if it ended.
"""
