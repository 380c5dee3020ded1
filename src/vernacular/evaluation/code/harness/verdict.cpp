// The linker puts __wrap_main before main, which holds the tests. The token comes by standard input before anything of
// the candidate's can run, and goes out on file descriptor 3 after the last test.
#include <unistd.h>

extern "C" int __real_main(int, char**);

static char token[64];

__attribute__((constructor(101))) static void take_token() {
  for (size_t at = 0; at < sizeof token;) {
    ssize_t got = read(0, token + at, sizeof token - at);
    if (got <= 0) _exit(70);
    at += got;
  }
  close(0);
}

extern "C" int __wrap_main(int count, char** words) {
  int code = __real_main(count, words);
  if (code == 0 && write(3, token, sizeof token) != sizeof token) code = 70;
  _exit(code);
}
