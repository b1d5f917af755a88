// What Swift's Glibc module leaves out of Linux, and nothing else: epoll, eventfd, signalfd, accept4, prctl, and the two
// things that must be C: signal handlers (they may do next to nothing) and the variadic open.
#pragma once
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/types.h>

// accept4(2) with SOCK_CLOEXEC, and SOCK_NONBLOCK where asked.
int clinux_accept(int listener, int nonblocking);
// socket(2), SOCK_STREAM with SOCK_CLOEXEC, and SOCK_NONBLOCK where asked.
int clinux_stream_socket(int family, int nonblocking);
// socket(2), an AF_UNIX SOCK_DGRAM with SOCK_CLOEXEC.
int clinux_datagram_socket(void);
// open(2) for appending, made with `mode` if absent, O_CLOEXEC. Does not wait for a FIFO's reader (fifo(7)): ENXIO.
int clinux_open_append(const char *path, mode_t mode);
// Opens what a descriptor stands for once more, for appending, O_CLOEXEC and O_NONBLOCK, which the new one has for itself.
int clinux_open_again(int descriptor);
// open(2) for reading, O_CLOEXEC.
int clinux_open_read(const char *path);
// The same, which does not wait for a FIFO's writer (fifo(7)).
int clinux_open_without_waiting(const char *path);
// The same for a folder in `folder`, or for the lock `name` in it, made if absent; neither follows a link in its last part.
int clinux_open_folder_in(int folder, const char *name);
int clinux_open_lock_in(int folder, const char *name);
// prctl(PR_SET_PDEATHSIG): `signal` comes when the parent dies.
int clinux_set_parent_death_signal(int signal);
// execvpe(3): searches PATH. Returns only if it fails.
int clinux_exec(const char *program, char *const arguments[], char *const environment[]);
// fcntl(F_SETFD): whether the descriptor survives exec.
int clinux_set_close_on_exec(int descriptor, int on);
// Lets no descriptor from `first` on survive exec (close_range(2)).
void clinux_close_on_exec_from(int first);
// fcntl(O_NONBLOCK).
int clinux_set_nonblocking(int descriptor, int on);

// Whether `signal` is ignored.
int clinux_is_ignored(int signal);
// Makes `signal` only raise the stop flag, and interrupt system calls.
int clinux_flag_on(int signal);
// The flagged signal that has come since the process began, TERM before others; 0 if none has.
int clinux_flagged(void);

// Makes `signal` interrupt system calls, and no more.
int clinux_interrupt_on(int signal);

// Makes `signal` be noted, and interrupt system calls.
int clinux_note_on(int signal);
// Whether a noted signal has come since the last call.
int clinux_take_note(void);

// Makes `signal`, where it is not blocked, answer the request that has begun below, in FastCGI, and end the process with `code`: for
// a process that is stuck where nothing else can reach it. Nothing happens if none has begun; where its id is not known yet,
// nothing is said.
int clinux_emergency_answer_on(int signal, int code);
// The answer, or the other one: at most 1,024 bytes, head and body. At `places` stand the request's id, the milliseconds that the
// database took, those of everything else, and the body.
int clinux_set_emergency_answer(int others, const void *words, size_t length, const long places[4]);
// A request that comes over `descriptor` since `began` (CLOCK_MONOTONIC), with this id as long as there is no better one.
void clinux_begin_emergency_answer(int descriptor, uint64_t began, const void *id, size_t length);
// FastCGI's id of it; 0: there is none.
void clinux_set_emergency_answer_request(uint16_t number);
// The request's own id, at most 128 bytes, and whether its answer has no body.
void clinux_set_emergency_answer_id(const void *id, size_t length, int omits_body);
// The other answer is meant, or not.
void clinux_choose_emergency_answer(int others);
// When the database was asked, and when its last answer had come; 0: not yet.
void clinux_set_emergency_answer_database(uint64_t began, uint64_t ended);
// It is being answered.
void clinux_end_emergency_answer(void);
// Makes `signal` raise the stop flag and lets the process live for `seconds` more (alarm(2), with SIGALRM's default).
int clinux_end_soon_on(int signal, unsigned seconds);

// Bytes that this process has allocated and not freed, mallinfo(3).
size_t clinux_heap(void);
// Gives what has been freed back to the system, malloc_trim(3).
void clinux_trim_heap(void);

// memfd_create(2): `size` bytes of shared memory, all zero, without a name in the file system.
int clinux_shared_memory(const char *name, size_t size);
// How many connections wait to be accepted, and how many may: TCP_INFO for TCP, sock_diag(7) for Unix sockets, whose
// queue nothing else tells. -1 and errno if it can't be known.
int clinux_listen_queue(int listener, uint32_t *waiting, uint32_t *most);
// Lets a listening TCP socket hear of no new connections (SO_ATTACH_FILTER, socket(7)); those in its queue, and those whose
// handshake has begun, are not touched. -1 and errno if that can't be had.
int clinux_drop_connection_requests(int listener);

// How many columns the terminal behind a descriptor has (ioctl_tty(2), TIOCGWINSZ); 0 where there is none, or it does not know.
int clinux_terminal_columns(int descriptor);

// What libraries print reaches standard output and error a whole line at a time.
void clinux_write_whole_lines(void);

// Sends a descriptor over a Unix socket (SCM_RIGHTS, unix(7)); waits if the socket is a blocking one. -1 and errno if not.
int clinux_send_descriptor(int socket, int descriptor);
// Receives one, with FD_CLOEXEC, without waiting; -1 and errno if there is none.
int clinux_receive_descriptor(int socket);
// socketpair(2), SOCK_SEQPACKET with SOCK_CLOEXEC.
int clinux_packet_pair(int ends[2]);

// epoll_pwait2(2) without a mask: waits at most `nanoseconds` (-1: for ever). Where the kernel does not have it (before 5.11),
// whole milliseconds, rounded up.
int clinux_epoll_wait(int epoll, struct epoll_event *events, int most, int64_t nanoseconds);
// prctl(PR_SET_TIMERSLACK): by how many nanoseconds the kernel may wake this thread late to save a wake-up.
void clinux_set_timer_slack(unsigned long nanoseconds);

// How wait(2) packs what became of a child.
int clinux_exit_code(int status);    // the exit code, or -1 if a signal ended it
int clinux_ending_signal(int status); // the signal, or 0 if it exited

// epoll's constants, which are an enum and macros in C.
static const uint32_t clinux_EPOLLIN = EPOLLIN, clinux_EPOLLOUT = EPOLLOUT, clinux_EPOLLERR = EPOLLERR,
                      clinux_EPOLLHUP = EPOLLHUP, clinux_EPOLLRDHUP = EPOLLRDHUP, clinux_EPOLLET = EPOLLET,
                      clinux_EPOLLEXCLUSIVE = EPOLLEXCLUSIVE;
static const int clinux_EPOLL_CLOEXEC = EPOLL_CLOEXEC, clinux_EFD = EFD_CLOEXEC | EFD_NONBLOCK,
                 clinux_SFD = SFD_CLOEXEC | SFD_NONBLOCK;
