#define _GNU_SOURCE
#include "CLinux.h"
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int clinux_accept(int listener, int nonblocking) {
  return accept4(listener, 0, 0, SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0));
}
int clinux_stream_socket(int family, int nonblocking) {
  return socket(family, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0);
}
int clinux_open_append(const char *path, mode_t mode) {
  return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, mode);
}
int clinux_open_read(const char *path) { return open(path, O_RDONLY | O_CLOEXEC); }
int clinux_set_parent_death_signal(int signal) { return prctl(PR_SET_PDEATHSIG, signal); }

int clinux_exec(const char *program, char *const arguments[], char *const environment[]) {
  return execvpe(program, arguments, environment);
}

int clinux_set_close_on_exec(int descriptor, int on) { return fcntl(descriptor, F_SETFD, on ? FD_CLOEXEC : 0); }
int clinux_set_nonblocking(int descriptor, int on) {
  int flags = fcntl(descriptor, F_GETFL);
  if (flags < 0) return flags;
  return fcntl(descriptor, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}

static volatile sig_atomic_t flagged;
static void raise_flag(int signal) { (void)signal; flagged = 1; }
int clinux_flag_on(int signal) {
  struct sigaction action = {.sa_handler = raise_flag};
  return sigaction(signal, &action, 0);
}
int clinux_flagged(void) { return flagged; }

int clinux_exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }
int clinux_ending_signal(int status) { return WIFSIGNALED(status) ? WTERMSIG(status) : 0; }
