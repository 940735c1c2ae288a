/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a driver that was taken over can do: goes through the driver's own stages of confinement (driver/confine.h),
 * then tries, each in a process of its own. Started as root, as drivers are. Two passes: with files, network and
 * privilege gone, but every system call still there, so that each layer is seen to hold by itself; then with the filter
 * on, where an attempt must end the process.
 *
 * A line for each attempt; exit status 1 if one has succeeded, or did not fail as it must.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver/confine.h"
#include "lib/log.h"

#define EXIT_NOT_CONFINED 99

/* What the host has that a driver shall not reach. */
static pid_t victim; /* a process of root's */
static char secret[] = "of the victim";
static int shm_key, shm_id;
static struct sockaddr_in tcp = {.sin_family = AF_INET};
static struct sockaddr_un abstract = {.sun_family = AF_UNIX};
static char ip_netns[] = "/proc/1/ns/net";

/* Each returns 0 or more if it succeeded. */

static long open_file(void)
{
	return open("/etc/passwd", O_RDONLY | O_CLOEXEC);
}

static long open_relative(void)
{
	return open("../../../../etc/passwd", O_RDONLY | O_CLOEXEC);
}

static long open_proc(void)
{
	return open("/proc/self/mem", O_RDWR | O_CLOEXEC);
}

static long open_device(void)
{
	return open("/dev/net/tun", O_RDWR | O_CLOEXEC);
}

static long create_file(void)
{
	return open("/new", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
}

static long make_directory(void)
{
	return mkdir("/new", 0700);
}

static long mount_proc(void)
{
	return mount("proc", "/", "proc", 0, NULL);
}

static long change_root(void)
{
	return chroot("/");
}

static long enter_namespace(void)
{
	int fd = open(ip_netns, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? fd : setns(fd, CLONE_NEWNET);
}

static long execute(void)
{
	return execl("/bin/true", "true", (char *)NULL);
}

static long connect_tcp(void)
{
	return connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&tcp, sizeof(tcp));
}

static long connect_abstract(void)
{
	return connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&abstract, sizeof(abstract));
}

static long raw_socket(void)
{
	return socket(AF_PACKET, SOCK_RAW, 0);
}

static long set_mtu(void)
{
	struct ifreq ifr = {.ifr_name = "lo", .ifr_mtu = 1000};

	return ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCSIFMTU, &ifr);
}

static long trace(void)
{
	return ptrace(PTRACE_ATTACH, victim, NULL, NULL);
}

static long read_memory(void)
{
	char buffer[sizeof(secret)];
	struct iovec local = {buffer, sizeof(buffer)}, remote = {secret, sizeof(secret)};

	return process_vm_readv(victim, &local, 1, &remote, 1, 0);
}

static long write_memory(void)
{
	struct iovec local = {secret, sizeof(secret)}, remote = {secret, sizeof(secret)};

	return process_vm_writev(victim, &local, 1, &remote, 1, 0);
}

static long send_signal(void)
{
	return kill(victim, SIGTERM);
}

static long take_descriptor(void)
{
	int pidfd = (int)syscall(SYS_pidfd_open, victim, 0);

	return pidfd < 0 ? pidfd : syscall(SYS_pidfd_getfd, pidfd, 0, 0);
}

static long attach_shm(void)
{
	return (long)(intptr_t)shmat(shm_id, NULL, 0);
}

static long find_shm(void)
{
	return shmget(shm_key, 0, 0);
}

static long become_root(void)
{
	return setresuid(0, 0, 0);
}

static long change_limit(void)
{
	return prctl(PR_CAPBSET_READ, 0, 0, 0, 0) == 0 ? -1 : 0;
}

static long name_host(void)
{
	return sethostname("taken", 5);
}

static long load_bpf(void)
{
	return syscall(SYS_bpf, 5, NULL, 0);
}

static long load_module(void)
{
	return syscall(SYS_init_module, NULL, 0, "");
}

/* Only the filter forbids these; what they would be good for is gone anyway. */

static long make_memory(void)
{
	return memfd_create("x", MFD_CLOEXEC);
}

static long map_code(void)
{
	return (long)(intptr_t)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static long make_user_namespace(void)
{
	return unshare(CLONE_NEWUSER);
}

static long make_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM, 0);
}

static long make_process(void)
{
	return fork();
}

static long duplicate(void)
{
	return dup(0);
}

static long make_ring(void)
{
	return syscall(SYS_io_uring_setup, 1, NULL);
}

static long signal_thread(void)
{
	return syscall(SYS_tgkill, victim, victim, SIGTERM);
}

static long control_device(void)
{
	return ioctl(0, TUNGETFEATURES, NULL);
}

static const struct attempt {
	const char *what;
	long (*try)(void);
	bool filter_only;
} attempts[] = {
	{"open a file", open_file, false},
	{"open a file upwards", open_relative, false},
	{"open its own memory", open_proc, false},
	{"open a device", open_device, false},
	{"create a file", create_file, false},
	{"make a directory", make_directory, false},
	{"mount", mount_proc, false},
	{"change the root", change_root, false},
	{"enter a namespace", enter_namespace, false},
	{"execute a program", execute, false},
	{"connect to the host", connect_tcp, false},
	{"connect to an abstract socket", connect_abstract, false},
	{"open a packet socket", raw_socket, false},
	{"change an interface", set_mtu, false},
	{"trace a process", trace, false},
	{"read a process's memory", read_memory, false},
	{"write a process's memory", write_memory, false},
	{"signal a process", send_signal, false},
	{"take a process's descriptor", take_descriptor, false},
	{"attach shared memory", attach_shm, false},
	{"find shared memory", find_shm, false},
	{"become root", become_root, false},
	{"hold on to a capability", change_limit, false},
	{"name the host", name_host, false},
	{"load a BPF program", load_bpf, false},
	{"load a module", load_module, false},
	{"make a memory file", make_memory, true},
	{"map memory as code", map_code, true},
	{"make a user namespace", make_user_namespace, true},
	{"make a socket", make_socket, true},
	{"make a process", make_process, true},
	{"duplicate a descriptor", duplicate, true},
	{"make an io_uring", make_ring, true},
	{"signal a thread", signal_thread, true},
	{"control a device", control_device, true},
};

/* In a child. */
static int confined(const struct attempt *attempt, bool filter)
{
	if (confine_sight("nobody", driver_kind_find("tap")) ||
	    (filter && confine_calls(driver_kind_find("tap"), SANDBOX_KILL)))
		return EXIT_NOT_CONFINED;
	return attempt->try() < 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static bool fails(const struct attempt *attempt, bool filter)
{
	int status = 0;
	pid_t pid = fork();
	bool good;

	if (pid == 0)
		_exit(confined(attempt, filter));
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	if (filter)
		good = WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
	else
		good = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
	printf("%s: %s%s\n", good ? "fails" : "WORKS", attempt->what, filter ? ", with the filter" : "");
	fflush(stdout);
	return good;
}

/* What must work outside, so that its failing inside means something. Returns what does not, or NULL. */
static const char *works_outside(void)
{
	int mine = prctl(PR_CAPBSET_READ, 0, 0, 0, 0);

	if (open_file() < 0 || open_proc() < 0)
		return "open a file";
	if (open_device() < 0)
		return "open a device";
	if (connect_tcp() < 0)
		return "connect to the host";
	if (connect_abstract() < 0)
		return "connect to an abstract socket";
	if (raw_socket() < 0)
		return "open a packet socket";
	if (read_memory() < 0)
		return "read a process's memory";
	if (find_shm() < 0 || attach_shm() == -1)
		return "attach shared memory";
	return mine == 1 ? NULL : "hold on to a capability";
}

static int open_doors(void)
{
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(tcp);

	tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	snprintf(abstract.sun_path + 1, sizeof(abstract.sun_path) - 1, "lasthop-jail-%d", getpid());
	if (bind(sock, (struct sockaddr *)&tcp, sizeof(tcp)) || listen(sock, 64) ||
	    getsockname(sock, (struct sockaddr *)&tcp, &size) ||
	    bind(other, (struct sockaddr *)&abstract, sizeof(abstract)) || listen(other, 64))
		return -1;
	shm_key = 0x6c680000 | (getpid() & 0xffff);
	shm_id = shmget(shm_key, 4096, IPC_CREAT | IPC_EXCL | 0666);
	if (shm_id < 0)
		return -1;
	victim = fork();
	if (victim == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return victim < 0 ? -1 : 0;
}

int main(void)
{
	const char *missing;
	bool good = true;
	int status;

	log_init("driver_jail", LOG_INFO);
	if (open_doors()) {
		perror("driver_jail");
		return EXIT_FAILURE;
	}
	missing = works_outside();
	if (missing) {
		printf("does not even work outside: %s\n", missing);
		good = false;
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(attempts); i++) {
		if (!attempts[i].filter_only)
			good &= fails(&attempts[i], false);
		good &= attempts[i].try == change_limit || fails(&attempts[i], true);
	}
	shmctl(shm_id, IPC_RMID, NULL);
	/* Nobody has harmed it meanwhile. */
	good &= waitpid(victim, &status, WNOHANG) == 0;
	kill(victim, SIGKILL);
	waitpid(victim, &status, 0);
	return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
