// What Swift's Glibc module leaves out of Linux, and nothing else: epoll, eventfd, signalfd, accept4, prctl, and the two
// things that must be C: a signal handler (it may touch nothing but a flag) and the variadic open.
#pragma once
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/types.h>

// accept4(2) with SOCK_CLOEXEC, and SOCK_NONBLOCK where asked.
int clinux_accept(int listener, int nonblocking);
// socket(2), SOCK_STREAM with SOCK_CLOEXEC, and SOCK_NONBLOCK where asked.
int clinux_stream_socket(int family, int nonblocking);
// open(2) for appending, made with `mode` if absent, O_CLOEXEC.
int clinux_open_append(const char *path, mode_t mode);
// open(2) for reading, O_CLOEXEC.
int clinux_open_read(const char *path);
// prctl(PR_SET_PDEATHSIG): `signal` comes when the parent dies.
int clinux_set_parent_death_signal(int signal);
// execvpe(3): searches PATH. Returns only if it fails.
int clinux_exec(const char *program, char *const arguments[], char *const environment[]);
// fcntl(F_SETFD): whether the descriptor survives exec.
int clinux_set_close_on_exec(int descriptor, int on);
// fcntl(O_NONBLOCK).
int clinux_set_nonblocking(int descriptor, int on);

// Makes `signal` only raise the stop flag, and interrupt system calls.
int clinux_flag_on(int signal);
// Whether a flagged signal has come since the process began.
int clinux_flagged(void);

// How wait(2) packs what became of a child.
int clinux_exit_code(int status);    // the exit code, or -1 if a signal ended it
int clinux_ending_signal(int status); // the signal, or 0 if it exited

// epoll's constants, which are an enum and macros in C.
static const uint32_t clinux_EPOLLIN = EPOLLIN, clinux_EPOLLOUT = EPOLLOUT, clinux_EPOLLERR = EPOLLERR,
                      clinux_EPOLLHUP = EPOLLHUP, clinux_EPOLLRDHUP = EPOLLRDHUP, clinux_EPOLLET = EPOLLET,
                      clinux_EPOLLEXCLUSIVE = EPOLLEXCLUSIVE;
static const int clinux_EPOLL_CLOEXEC = EPOLL_CLOEXEC, clinux_EFD = EFD_CLOEXEC | EFD_NONBLOCK,
                 clinux_SFD = SFD_CLOEXEC | SFD_NONBLOCK;
