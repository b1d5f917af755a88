// A pool whose workers wait on the connection that was kept, as a loop around libfcgi's FCGX_Accept_r does.
#include <fcgiapp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int count, char **arguments) {
  if (count != 3) return 2;
  FCGX_Init();
  int listener = FCGX_OpenSocket(arguments[1], 4096);
  if (listener < 0) return 1;
  for (int worker = 0; worker < atoi(arguments[2]); worker++) {
    if (fork() != 0) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    FCGX_Request request;
    FCGX_InitRequest(&request, listener, 0);
    while (FCGX_Accept_r(&request) == 0)
      FCGX_PutS("Status: 200 OK\r\nContent-Type: application/json\r\n\r\n{\"statements\":0,\"rows\":0,\"bytes\":0,\"body\":0,\"data\":[]}",
                request.out);
    _exit(0);
  }
  pause();
}
