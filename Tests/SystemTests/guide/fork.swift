// What docs/sync-and-async.md says of a fork behind a thread: compiled and run by test_guide.py.

import Dispatch
import Glibc

func hasRunATask() -> Bool {
  let done = DispatchSemaphore(value: 0)
  Task.detached { done.signal() }
  return done.wait(timeout: .now() + 1) == .success
}

print("before the fork a task has run: \(hasRunATask())")
fflush(nil)
if fork() == 0 {
  print("in the child a task has run: \(hasRunATask())")
  fflush(nil)
  _exit(0)
}
var status: Int32 = 0
wait(&status)
