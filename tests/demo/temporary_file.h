#pragma once

// TemporaryFile: a file with a name of its own, gone with the test.

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace tiercel::failover {

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content = {})
      : path_((std::filesystem::temp_directory_path() / "tiercel-demo-test-XXXXXX").string()) {
    const int fd = ::mkstemp(path_.data());
    if (fd >= 0) ::close(fd);
    write(content);
  }
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(const std::string& content) const {
    std::ofstream{path_, std::ios::binary | std::ios::trunc} << content;
  }
  [[nodiscard]] std::string read() const {
    std::ostringstream text;
    text << std::ifstream{path_, std::ios::binary}.rdbuf();
    return std::move(text).str();
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace tiercel::failover
