// Fuzzes the reply path: a server's bytes, in arbitrary pieces, through RespParser. Whatever the
// bytes and the pieces: no crash, no reply out of nothing, the same replies and the same verdict,
// and memory in proportion to what came (-malloc_limit_mb bounds what one allocation may take). The
// same input also makes up replies, which must survive being written and parsed.
//
//   ./run fuzz 60
//
// `resp_fuzz --write-seeds=DIRECTORY` writes the seed corpus there and ends.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "resp_parser.h"
#include "tiercel/base/check.h"
#include "tiercel/base/random.h"

namespace tiercel::l2 {
namespace {

constexpr std::size_t kReplyBytesMin = 3;  // "+\r\n"
constexpr std::size_t kMemoryPerByteMax =
    128;                      // An element costs a Reply, and a vector may double.
constexpr int kDepthMax = 6;  // Of what is made up; the parser refuses more than 7.

bool same(const Reply& a, const Reply& b) {
  if (a.kind != b.kind || a.integer != b.integer || a.text != b.text) return false;
  if (a.elements.size() != b.elements.size()) return false;
  for (std::size_t i = 0; i < a.elements.size(); ++i) {
    if (!same(a.elements[i], b.elements[i])) return false;
  }
  return true;
}

std::size_t memory_of(const Reply& reply) {
  std::size_t bytes = reply.text.capacity() + (reply.elements.capacity() * sizeof(Reply));
  for (const Reply& element : reply.elements) bytes += memory_of(element);
  return bytes;
}

struct Parsed {
  std::vector<Reply> replies;
  bool is_refused = false;
};

bool same(const Parsed& a, const Parsed& b) {
  if (a.is_refused != b.is_refused || a.replies.size() != b.replies.size()) return false;
  for (std::size_t i = 0; i < a.replies.size(); ++i) {
    if (!same(a.replies[i], b.replies[i])) return false;
  }
  return true;
}

// Each piece in memory of its own and of its exact size, so that reading beyond it is seen.
template <typename NextSize>
Parsed parse(std::string_view stream, NextSize next_size) {
  Parsed parsed;
  RespParser parser;
  std::size_t memory = 0;
  for (std::size_t fed = 0; fed < stream.size();) {
    const std::size_t size = std::min<std::size_t>(next_size(), stream.size() - fed);
    const auto piece = std::make_unique<char[]>(size);
    std::memcpy(piece.get(), stream.data() + fed, size);
    fed += size;
    parsed.is_refused = !parser.feed({piece.get(), size});
    while (!parsed.is_refused) {
      auto reply = parser.next();
      parsed.is_refused = !reply;
      if (!reply) TIERCEL_CHECK(reply.error().code == ErrorCode::kProtocol);
      if (!reply || !reply->has_value()) break;
      parsed.replies.push_back(std::move(**reply));
      TIERCEL_CHECK(parsed.replies.size() * kReplyBytesMin <= fed);
      memory += memory_of(parsed.replies.back());
      TIERCEL_CHECK(memory <= fed * kMemoryPerByteMax);
    }
    if (parsed.is_refused) {
      TIERCEL_CHECK(!parser.next() && !parser.feed("+OK\r\n"));  // For good.
      break;
    }
  }
  return parsed;
}

Parsed check_all_splits(std::string_view stream, std::uint64_t seed) {
  const Parsed whole = parse(stream, [&] { return stream.size(); });
  TIERCEL_CHECK(same(whole, parse(stream, [] { return std::size_t{1}; })));
  Random random{seed};
  TIERCEL_CHECK(same(whole, parse(stream, [&] { return random.below(24) + 1; })));
  return whole;
}

// Takes bytes off the input as long as there are any.
class Source {
 public:
  explicit Source(std::string_view bytes) : bytes_(bytes) {}
  [[nodiscard]] bool is_empty() const { return bytes_.empty(); }
  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const auto byte = static_cast<std::uint8_t>(bytes_[0]);
    bytes_.remove_prefix(1);
    return byte;
  }
  std::string text() {
    const std::string out{bytes_.substr(0, byte() % 40)};
    bytes_.remove_prefix(std::min(out.size(), bytes_.size()));
    return out;
  }
  std::string line() {  // Statuses and errors end with their line.
    std::string out = text();
    for (char& c : out) c = c == '\r' || c == '\n' ? ' ' : c;
    return out;
  }

 private:
  std::string_view bytes_;
};

Reply make_up(Source& source, int depth) {
  Reply reply;
  reply.kind = static_cast<Reply::Kind>(source.byte() % (depth < kDepthMax ? 6 : 5));
  switch (reply.kind) {
    case Reply::Kind::kNil: break;
    case Reply::Kind::kStatus:
    case Reply::Kind::kError: reply.text = source.line(); break;
    case Reply::Kind::kString: reply.text = source.text(); break;
    case Reply::Kind::kInteger: {
      std::uint64_t bits = 0;
      for (int i = source.byte() % 9; i > 0; --i) bits = (bits << 8) | source.byte();
      reply.integer = static_cast<std::int64_t>(bits);
      break;
    }
    case Reply::Kind::kArray:
      for (int i = source.byte() % 8; i > 0; --i)
        reply.elements.push_back(make_up(source, depth + 1));
      break;
  }
  return reply;
}

void write(const Reply& reply, std::string& out) {
  const auto line = [&](char type, const std::string& text) { out += type + text + "\r\n"; };
  switch (reply.kind) {
    case Reply::Kind::kNil: return line('$', "-1");
    case Reply::Kind::kStatus: return line('+', reply.text);
    case Reply::Kind::kError: return line('-', reply.text);
    case Reply::Kind::kInteger: return line(':', std::to_string(reply.integer));
    case Reply::Kind::kString:
      line('$', std::to_string(reply.text.size()));
      out += reply.text + "\r\n";
      return;
    case Reply::Kind::kArray:
      line('*', std::to_string(reply.elements.size()));
      for (const Reply& element : reply.elements) write(element, out);
      return;
  }
}

void fuzz_made_up(std::string_view bytes, std::uint64_t seed) {
  Source source{bytes};
  Parsed made_up;
  std::string stream;
  while (!source.is_empty() && made_up.replies.size() < 100) {
    made_up.replies.push_back(make_up(source, 0));
    write(made_up.replies.back(), stream);
  }
  TIERCEL_CHECK(same(made_up, check_all_splits(stream, seed)));
}

void write_seeds(const std::filesystem::path& directory) {
  std::filesystem::create_directories(directory);
  const std::vector<std::string> seeds{
      "+OK\r\n-ERR no\r\n:-42\r\n$-1\r\n*-1\r\n$3\r\na\r\n\r\n$0\r\n\r\n*0\r\n",
      "*3\r\n$1\r\nx\r\n*2\r\n:1\r\n*1\r\n+deep\r\n$2\r\nyz\r\n",
      "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
      ":9223372036854775807\r\n:-9223372036854775808\r\n:9223372036854775808\r\n",
      "*2147483647\r\n$536870912\r\nabc",
      "$-2\r\n",
      "*-2\r\n",
      "$00000000000000000000000000000005\r\nhello\r\n",
      "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n*2\r\n$4\r\npong\r\n$1\r\nt\r\n",
      "HTTP/1.1 400 Bad Request\r\n\r\n",
      "%1\r\n+a\r\n:1\r\n_\r\n#t\r\n,1.5\r\n(12\r\n~1\r\n:1\r\n>1\r\n:1\r\n=7\r\ntxt:abc\r\n",
      std::string(300, '+') + "\r\n",
  };
  for (std::size_t i = 0; i < seeds.size(); ++i) {
    std::ofstream{directory / ("seed-" + std::to_string(i))} << 's' << seeds[i];
  }
}

}  // namespace
}  // namespace tiercel::l2

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr std::string_view kFlag = "--write-seeds=";
  for (int i = 1; i < *argc; ++i) {
    const std::string_view argument{(*argv)[i]};
    if (!argument.starts_with(kFlag)) continue;
    tiercel::l2::write_seeds(argument.substr(kFlag.size()));
    std::exit(0);
  }
  return 0;
}

// The first byte decides about the pieces, the rest is the stream.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view stream{reinterpret_cast<const char*>(data) + 1, size - 1};
  tiercel::l2::check_all_splits(stream, data[0]);
  tiercel::l2::fuzz_made_up(stream, data[0]);
  return 0;
}
