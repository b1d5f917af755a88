#define _GNU_SOURCE
#include "CLinux.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int clinux_accept(int listener, int nonblocking) {
  return accept4(listener, 0, 0, SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0));
}
int clinux_stream_socket(int family, int nonblocking) {
  return socket(family, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0);
}
int clinux_datagram_socket(void) { return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0); }
int clinux_open_append(const char *path, mode_t mode) {
  return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, mode);
}
int clinux_open_again(int descriptor) {
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
  return open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}
int clinux_open_read(const char *path) { return open(path, O_RDONLY | O_CLOEXEC); }
int clinux_open_without_waiting(const char *path) { return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); }
int clinux_open_folder_in(int folder, const char *name) {
  return openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}
int clinux_open_lock_in(int folder, const char *name) {
  return openat(folder, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0600);
}
int clinux_epoll_wait(int epoll, struct epoll_event *events, int most, int64_t nanoseconds) {
  if (nanoseconds > 0) {
    struct timespec time = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    int count = epoll_pwait2(epoll, events, most, &time, NULL);
    // EPERM: a container's filter of system calls that is older than it.
    if (count >= 0 || (errno != ENOSYS && errno != EPERM))
      return count;
    nanoseconds += 999999;
  }
  int64_t milliseconds = nanoseconds < 0 ? -1 : nanoseconds / 1000000;
  return epoll_wait(epoll, events, most, milliseconds > 3600000 ? 3600000 : (int)milliseconds);
}

void clinux_set_timer_slack(unsigned long nanoseconds) { prctl(PR_SET_TIMERSLACK, nanoseconds); }

int clinux_set_parent_death_signal(int signal) { return prctl(PR_SET_PDEATHSIG, signal); }

int clinux_exec(const char *program, char *const arguments[], char *const environment[]) {
  return execvpe(program, arguments, environment);
}

int clinux_set_close_on_exec(int descriptor, int on) { return fcntl(descriptor, F_SETFD, on ? FD_CLOEXEC : 0); }
void clinux_close_on_exec_from(int first) {
  if (close_range((unsigned)first, ~0U, CLOSE_RANGE_CLOEXEC) == 0) return;
  // A kernel before 5.11, or a filter of system calls that is older than it.
  DIR *folder = opendir("/proc/self/fd");
  if (!folder) return;
  for (struct dirent *entry; (entry = readdir(folder));) {
    int number = atoi(entry->d_name);
    if (number >= first) fcntl(number, F_SETFD, FD_CLOEXEC);
  }
  closedir(folder);
}
int clinux_set_nonblocking(int descriptor, int on) {
  int flags = fcntl(descriptor, F_GETFL);
  if (flags < 0) return flags;
  return fcntl(descriptor, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

int clinux_is_ignored(int signal) {
  struct sigaction action;
  return sigaction(signal, 0, &action) == 0 && action.sa_handler == SIG_IGN;
}

static volatile sig_atomic_t flagged;
static void raise_flag(int signal) {
  if (flagged != SIGTERM) flagged = signal;
}
int clinux_flag_on(int signal) {
  struct sigaction action = {.sa_handler = raise_flag};
  return sigaction(signal, &action, 0);
}
int clinux_flagged(void) { return flagged; }

static volatile sig_atomic_t noted;
static void take_note(int signal) {
  (void)signal;
  noted = 1;
}
int clinux_note_on(int signal) {
  struct sigaction action = {.sa_handler = take_note};
  return sigaction(signal, &action, 0);
}
int clinux_take_note(void) {
  int was = noted;
  noted = 0;
  return was;
}

static void do_nothing(int signal) { (void)signal; }
int clinux_interrupt_on(int signal) {
  struct sigaction action = {.sa_handler = do_nothing};
  return sigaction(signal, &action, 0);
}

int clinux_exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }
int clinux_ending_signal(int status) { return WIFSIGNALED(status) ? WTERMSIG(status) : 0; }

enum { longest_words = 1024, longest_id = 128 };
static struct {
  char text[longest_words];
  size_t length, places[4];
} last[2];
static int last_code;
static volatile sig_atomic_t last_descriptor = -1, last_choice, last_number, last_omits_body;
static volatile uint64_t last_began, last_database_began, last_database_ended;
static char last_id[longest_id];
static volatile size_t last_id_length;

static size_t put(char *out, size_t at, const char *text, size_t length) {
  memcpy(out + at, text, length);
  return at + length;
}
// Nanoseconds as milliseconds with three decimals.
static size_t put_milliseconds(char *out, size_t at, uint64_t nanoseconds) {
  char digits[24];
  size_t first = sizeof digits;
  uint64_t rest = nanoseconds / 1000;
  for (int count = 0; rest > 0 || count < 4; count++) {
    if (count == 3) digits[--first] = '.';
    digits[--first] = (char)('0' + rest % 10);
    rest /= 10;
  }
  return put(out, at, digits + first, sizeof digits - first);
}
// FastCGI 1.0 §3.3.
static size_t put_record(char *out, size_t at, int kind, size_t length) {
  char header[8] = {1, (char)kind, (char)(last_number >> 8), (char)last_number, (char)(length >> 8), (char)length, 0, 0};
  return put(out, at, header, sizeof header);
}
static void say_emergency_answer(int signal) {
  (void)signal;
  if (last_descriptor < 0) return;
  if (last_number == 0) _exit(last_code);
  int choice = last_choice;
  const size_t *places = last[choice].places;
  const char *text = last[choice].text;
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  uint64_t now = (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
  uint64_t database = last_database_began == 0 ? 0 : (last_database_ended ? last_database_ended : now) - last_database_began;
  char out[8 + longest_words + longest_id + 2 * 24 + 16];
  size_t at = put(out, 8, text, places[0]);
  at = put(out, at, last_id, last_id_length);
  at = put(out, at, text + places[0], places[1] - places[0]);
  at = put_milliseconds(out, at, database);
  at = put(out, at, text + places[1], places[2] - places[1]);
  at = put_milliseconds(out, at, now - last_began - database);
  at = put(out, at, text + places[2], (last_omits_body ? places[3] : last[choice].length) - places[2]);
  put_record(out, 0, 6, at - 8);
  at = put_record(out, at, 3, 8);
  at = put(out, at, "\0\0\0\0\0\0\0", 8);
  (void)!send(last_descriptor, out, at, MSG_NOSIGNAL | MSG_DONTWAIT);
  _exit(last_code);
}
int clinux_set_emergency_answer(int others, const void *words, size_t length, const long places[4]) {
  long before = 0;
  for (int index = 0; index < 4; before = places[index++])
    if (places[index] < before || (size_t)places[index] > length) length = SIZE_MAX;
  if (length > longest_words) {
    errno = EINVAL;
    return -1;
  }
  others = others != 0;
  if (length > 0) memcpy(last[others].text, words, length);
  last[others].length = length;
  for (int index = 0; index < 4; index++) last[others].places[index] = (size_t)places[index];
  return 0;
}
int clinux_emergency_answer_on(int signal, int code) {
  last_code = code;
  // An answer that is being written goes on: a write that was interrupted would be a broken one to libfcgi.
  struct sigaction action = {.sa_handler = say_emergency_answer, .sa_flags = SA_RESTART};
  return sigaction(signal, &action, 0);
}
void clinux_begin_emergency_answer(int descriptor, uint64_t began, const void *id, size_t length) {
  last_number = 0;
  last_choice = 0;
  last_began = began;
  last_database_began = last_database_ended = 0;
  clinux_set_emergency_answer_id(id, length, 0);
  last_descriptor = descriptor;
}
void clinux_set_emergency_answer_request(uint16_t number) { last_number = number; }
void clinux_set_emergency_answer_id(const void *id, size_t length, int omits_body) {
  size_t taken = length < longest_id ? length : longest_id;
  last_id_length = 0;
  atomic_signal_fence(memory_order_seq_cst);
  if (taken > 0) memcpy(last_id, id, taken);
  atomic_signal_fence(memory_order_seq_cst);
  last_id_length = taken;
  last_omits_body = omits_body;
}
void clinux_choose_emergency_answer(int others) { last_choice = others != 0; }
void clinux_set_emergency_answer_database(uint64_t began, uint64_t ended) {
  last_database_ended = ended;
  last_database_began = began;
}
void clinux_end_emergency_answer(void) { last_descriptor = -1; }

static unsigned seconds_left;
static void end_soon(int number) {
  flagged = number;
  signal(SIGALRM, SIG_DFL);
  alarm(seconds_left);
}
int clinux_end_soon_on(int signal, unsigned seconds) {
  seconds_left = seconds;
  struct sigaction action = {.sa_handler = end_soon};
  return sigaction(signal, &action, 0);
}

int clinux_shared_memory(const char *name, size_t size) {
  int descriptor = memfd_create(name, MFD_CLOEXEC);
  if (descriptor >= 0 && ftruncate(descriptor, (off_t)size) != 0) {
    close(descriptor);
    return -1;
  }
  return descriptor;
}

static int unix_queue(int listener, uint32_t *waiting, uint32_t *most) {
  struct stat status;
  if (fstat(listener, &status) != 0) return -1;
  struct {
    struct nlmsghdr header;
    struct unix_diag_req body;
  } request = {
      .header = {.nlmsg_len = sizeof request, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
      .body = {.sdiag_family = AF_UNIX, .udiag_states = -1, .udiag_ino = (uint32_t)status.st_ino,
               .udiag_show = UDIAG_SHOW_RQLEN, .udiag_cookie = {-1, -1}},
  };
  int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (netlink < 0) return -1;
  struct {
    _Alignas(8) char bytes[1024];
  } answer;
  ssize_t count = send(netlink, &request, sizeof request, 0);
  if (count > 0) count = recv(netlink, answer.bytes, sizeof answer.bytes, 0);
  int code = errno;
  close(netlink);
  errno = code;
  struct nlmsghdr *header = (struct nlmsghdr *)answer.bytes;
  if (count <= 0) return -1;
  if (!NLMSG_OK(header, count) || header->nlmsg_type != SOCK_DIAG_BY_FAMILY) {
    errno = ENOENT;
    return -1;
  }
  struct rtattr *attribute = (struct rtattr *)((struct unix_diag_msg *)NLMSG_DATA(header) + 1);
  int length = (int)header->nlmsg_len - (int)NLMSG_LENGTH(sizeof(struct unix_diag_msg));
  for (; RTA_OK(attribute, length); attribute = RTA_NEXT(attribute, length)) {
    if (attribute->rta_type != UNIX_DIAG_RQLEN) continue;
    struct unix_diag_rqlen queue;
    memcpy(&queue, RTA_DATA(attribute), sizeof queue);
    *waiting = queue.udiag_rqueue;
    *most = queue.udiag_wqueue;
    return 0;
  }
  errno = ENOENT;
  return -1;
}

int clinux_drop_connection_requests(int listener) {
  // Drops what has SYN set among the flags, byte 13 of TCP's header, where a filter of a TCP socket begins to count
  // (RFC 9293 §3.1). An ACK that ends a handshake still comes through.
  struct sock_filter program[] = {
      {BPF_LD | BPF_B | BPF_ABS, 0, 0, 13},
      {BPF_JMP | BPF_JSET | BPF_K, 1, 0, 0x02},  // if set, one instruction is passed over
      {BPF_RET | BPF_K, 0, 0, 0xFFFFFFFF},
      {BPF_RET | BPF_K, 0, 0, 0},
  };
  struct sock_fprog filter = {sizeof program / sizeof program[0], program};
  return setsockopt(listener, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
}

int clinux_listen_queue(int listener, uint32_t *waiting, uint32_t *most) {
  int domain = 0;
  socklen_t length = sizeof domain;
  if (getsockopt(listener, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0) return -1;
  if (domain == AF_UNIX) return unix_queue(listener, waiting, most);
  struct tcp_info information;
  length = sizeof information;
  if (getsockopt(listener, IPPROTO_TCP, TCP_INFO, &information, &length) != 0) return -1;
  // Of a listening socket these two are the accept queue's length and its bound (net/ipv4/tcp.c).
  *waiting = information.tcpi_unacked;
  *most = information.tcpi_sacked;
  return 0;
}

int clinux_terminal_columns(int descriptor) {
  struct winsize size;
  return ioctl(descriptor, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

void clinux_write_whole_lines(void) {
  setvbuf(stdout, 0, _IOLBF, 4096);
  setvbuf(stderr, 0, _IOLBF, 4096);
}

int clinux_send_descriptor(int socket, int descriptor) {
  char byte = 0;
  struct iovec vector = {&byte, 1};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
  struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
  ssize_t count;
  do count = sendmsg(socket, &message, MSG_NOSIGNAL);
  while (count < 0 && errno == EINTR);
  return count < 0 ? -1 : 0;
}

int clinux_receive_descriptor(int socket) {
  char byte;
  struct iovec vector = {&byte, 1};
  union {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
  } control;
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
  ssize_t count;
  do count = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  while (count < 0 && errno == EINTR);
  if (count < 0) return -1;
  struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
  if (count == 0 || !rights || rights->cmsg_type != SCM_RIGHTS) {
    errno = EBADMSG;
    return -1;
  }
  int descriptor;
  memcpy(&descriptor, CMSG_DATA(rights), sizeof descriptor);
  return descriptor;
}

int clinux_packet_pair(int ends[2]) { return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends); }

void clinux_trim_heap(void) { malloc_trim(0); }

size_t clinux_heap(void) {
  struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}
