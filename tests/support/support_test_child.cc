// What the tests of this folder run as a process of its own. One word says what it is to do.

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "support/redis_server.h"

namespace {

using tiercel::testing::RedisServer;

int echo() {
  for (std::string line; std::getline(std::cin, line);) std::cout << line << std::endl;
  return 0;
}

// Tells about a server that it starts, and stays until it is killed.
int serve(bool from_short_lived_thread, bool leave_forked_child) {
  std::unique_ptr<RedisServer> server;
  if (from_short_lived_thread) {
    std::thread{[&] { server = RedisServer::start(); }}.join();
  } else {
    server = RedisServer::start();
  }
  // Without exec, so that it inherits every descriptor, close-on-exec or not.
  const pid_t forked = leave_forked_child ? ::fork() : 0;
  if (leave_forked_child && forked == 0) {
    ::alarm(120);  // Should the test that kills it never come to that.
    for (;;) ::pause();
  }
  std::cout << server->pid() << std::endl << server->folder() << std::endl << forked << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "ping") std::cout << server->command({"PING"}) << std::endl;
  }
  return 0;
}

int pause_for_ever() {
  for (;;) ::pause();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "echo") return echo();
  if (what == "exit") return argc > 2 ? std::atoi(argv[2]) : 0;
  if (what == "half-line") {
    std::cout << "whole\nhalf" << std::flush;
    return 0;
  }
  if (what == "pause") return pause_for_ever();
  if (what == "serve") return serve(false, false);
  if (what == "serve-from-thread") return serve(true, false);
  if (what == "serve-and-fork") return serve(false, true);
  std::fprintf(stderr, "usage: %s echo|exit CODE|half-line|pause|serve…\n", argv[0]);
  return 2;
}
