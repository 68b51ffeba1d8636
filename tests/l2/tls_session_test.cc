// TlsSession against a server in memory: every piece size, garbage and truncation at every place,
// and what servers do after the handshake.

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <initializer_list>

#include "tls_memory_server.h"

namespace tiercel::l2 {
namespace {

using namespace std::chrono_literals;
using testing::CertificateFiles;
using testing::TestAuthority;

class TlsSessionTest : public ::testing::Test {
 protected:
  [[nodiscard]] TlsOptions trusting() const { return {.ca_file = authority_.file()}; }
  [[nodiscard]] TlsServerSpec server() const { return {.certificate = certificate_}; }

  // The session of a context that is kept for the rest of the test.
  MemoryClient client(const TlsOptions& options, const std::string& name = "localhost") {
    auto context = TlsContext::create(options, {});
    EXPECT_TRUE(context) << context.error().to_string();
    contexts_.push_back(*context);
    auto session = contexts_.back()->open_session(name);
    EXPECT_TRUE(session) << session.error().to_string();
    return MemoryClient{std::move(*session)};
  }

  // The error of a handshake that must not succeed.
  Error failure(const TlsOptions& options, const TlsServerSpec& spec,
                const std::string& name = "localhost") {
    MemoryClient tried = client(options, name);
    TlsMemoryServer peer{spec};
    converse(tried, peer);
    EXPECT_TRUE(tried.error);
    EXPECT_EQ(tried.received, "");
    return tried.error ? *tried.error : internal("no error");
  }

  const TestAuthority authority_;
  const CertificateFiles certificate_ = authority_.issue();
  std::vector<std::shared_ptr<TlsContext>> contexts_;
};

std::string pattern(std::size_t bytes) {
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(i * 7 + i / 251);
  return text;
}

bool has(const Error& error, std::string_view part) {
  return error.message.find(part) != std::string::npos;
}

TEST_F(TlsSessionTest, CarriesBytesWhateverThePieces) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    for (const std::size_t piece : std::initializer_list<std::size_t>{1, 2, 5, 17, 1000, 100'000}) {
      MemoryClient one = client(trusting());
      TlsServerSpec spec = server();
      spec.version_min = spec.version_max = version;
      TlsMemoryServer peer{spec};
      converse(one, peer, piece);
      ASSERT_FALSE(one.error) << one.error->to_string();
      ASSERT_EQ(one.openings, 1);
      for (const std::size_t bytes :
           std::initializer_list<std::size_t>{1, 16'384, 16'385, 70'000}) {
        const std::string text = pattern(bytes);
        one.received.clear();
        const std::size_t before = peer.received().size();
        ASSERT_TRUE(one.session->write(text));
        peer.write(text);
        converse(one, peer, piece);
        ASSERT_FALSE(one.error) << one.error->to_string();
        EXPECT_TRUE(one.received == text);
        EXPECT_TRUE(peer.received().substr(before) == text);
      }
    }
  }
}

TEST_F(TlsSessionTest, SaysNothingPlainBeforeTheServerIsVerified) {
  MemoryClient one = client(trusting(), "other.example");
  TlsMemoryServer peer{server()};
  converse(one, peer);
  EXPECT_EQ(one.openings, 0);
  ASSERT_TRUE(one.error);
  // An alert tells the server; it stays an error.
  EXPECT_EQ(peer.received(), "");
  EXPECT_FALSE(one.session->write("secret"));
  EXPECT_EQ(one.session->next().error(), *one.error);
}

TEST_F(TlsSessionTest, KnowsNamesAndAddresses) {
  const auto issue = [&](std::vector<std::string> names) {
    return TlsServerSpec{.certificate = authority_.issue({.names = std::move(names)})};
  };
  struct Case {
    std::vector<std::string> names;
    std::string name;
    bool is_good;
  };
  for (const Case& tried : {
           Case{{"DNS:localhost"}, "localhost", true},
           Case{{"DNS:localhost"}, "LOCALHOST", true},
           Case{{"DNS:localhost"}, "localhost.", true},  // As a resolver reads it.
           Case{{"DNS:localhost"}, "127.0.0.1", false},  // An address is no name,
           Case{{"DNS:127.0.0.1"}, "127.0.0.1", false},  // also when it is written like one.
           Case{{"IP:127.0.0.1"}, "127.0.0.1", true},
           Case{{"IP:127.0.0.2"}, "127.0.0.1", false},
           Case{{"IP:2001:db8::1"}, "2001:db8:0::1", true},
           Case{{"IP:::1"}, "::2", false},
           Case{{"DNS:*.example.net"}, "r1.example.net", true},
           Case{{"DNS:*.example.net"}, "a.r1.example.net", false},
           Case{{"DNS:*.example.net"}, "example.net", false},
           Case{{"DNS:r*.example.net"}, "r1.example.net", false},
           Case{{"DNS:example.net"}, "example.net.evil.org", false},
       }) {
    MemoryClient one = client(trusting(), tried.name);
    TlsMemoryServer peer{issue(tried.names)};
    converse(one, peer);
    EXPECT_EQ(one.openings, tried.is_good ? 1 : 0) << tried.names[0] << " for " << tried.name;
    EXPECT_EQ(one.error.has_value(), !tried.is_good);
  }
  const auto none = TlsContext::create(trusting(), {});
  EXPECT_EQ((*none)->open_session("").error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ((*none)->open_session(".").error().code, ErrorCode::kInvalidArgument);
}

TEST_F(TlsSessionTest, TellsTheServerItsName) {
  for (const auto& [name, sent] : {std::pair{"localhost", "localhost"}, {"127.0.0.1", ""}}) {
    MemoryClient one = client(trusting(), name);
    TlsMemoryServer peer{server()};
    converse(one, peer);
    ASSERT_EQ(one.openings, 1);
    const char* got = SSL_get_servername(peer.ssl(), TLSEXT_NAMETYPE_host_name);
    EXPECT_EQ(std::string{got != nullptr ? got : ""}, sent);
  }
}

TEST_F(TlsSessionTest, SaysWhatIsWrongWithACertificate) {
  const TestAuthority other{"Unknown CA"};
  const TestAuthority namesake;  // Called like the one that is trusted.
  const auto spec = [](CertificateFiles files) {
    return TlsServerSpec{.certificate = std::move(files)};
  };
  struct Case {
    const char* what;
    TlsServerSpec spec;
    std::vector<const char*> said;
  };
  for (const Case& wrong : {
           Case{"expired",
                spec(authority_.issue({.begins = -10h, .ends = -1h})),
                {"expired on 20", "renew it on the server"}},
           Case{"early",
                spec(authority_.issue({.begins = 2h})),
                {"not valid before 20", "set the clock"}},
           Case{"other CA",
                spec(other.issue()),
                {"CA is unknown", "CN=Unknown CA", "tls.ca_file", "ca="}},
           Case{"namesake", spec(namesake.issue()), {"CN=Test CA", "ca="}},
           Case{"name",
                spec(authority_.issue({.names = {"DNS:a.example", "IP:10.0.0.1"}})),
                {"not for 'localhost'", "a.example, 10.0.0.1", "tls.server_name", "sni="}},
           Case{"no name",
                spec(authority_.issue({.common_name = "old-style", .names = {}})),
                {"not for 'localhost'", "no host, only CN=old-style"}},
       }) {
    const Error error = failure(trusting(), wrong.spec);
    EXPECT_EQ(error.code, ErrorCode::kInvalidArgument) << wrong.what;
    for (const char* part : wrong.said) {
      EXPECT_TRUE(has(error, part)) << wrong.what << ": " << part << "\n" << error.message;
    }
    // The explicit way to have it nevertheless.
    MemoryClient careless = client({.insecure_skip_verification = true});
    TlsMemoryServer peer{wrong.spec};
    converse(careless, peer);
    EXPECT_EQ(careless.openings, 1) << wrong.what;
  }
  // Where nothing is configured, the system's CAs are trusted, and ours is not among them.
  const Error error = failure({}, server());
  EXPECT_TRUE(has(error, "the system's CAs")) << error.message;
}

TEST_F(TlsSessionTest, NamesOfACertificateAreBoundedAndPrintable) {
  std::vector<std::string> names;
  for (int i = 0; i < 100; ++i) names.push_back("DNS:host" + std::to_string(i) + ".example");
  const Error many =
      failure(trusting(), {.certificate = authority_.issue({.names = std::move(names)})});
  EXPECT_TRUE(has(many, "host7.example and 92 more")) << many.message;
  const Error odd = failure(
      trusting(), {.certificate = authority_.issue({.common_name = "a\n\x1b[31m", .names = {}})});
  for (const char c : odd.message) EXPECT_TRUE(c >= 0x20 && c < 0x7f) << odd.message;
}

TEST_F(TlsSessionTest, TrustsADirectory) {
  MemoryClient one = client({.ca_directory = authority_.hashed_folder()});
  TlsMemoryServer peer{server()};
  converse(one, peer);
  EXPECT_EQ(one.openings, 1);
}

TEST_F(TlsSessionTest, ShowsItsCertificateAndSaysWhenItIsMissingOrRefused) {
  const CertificateFiles ours = authority_.issue({.common_name = "client", .names = {}});
  const TestAuthority stranger{"Stranger"};
  const CertificateFiles strange = stranger.issue();
  const CertificateFiles old = authority_.issue({.begins = -10h, .ends = -1h});
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsServerSpec strict = server();
    strict.client_ca = authority_.file();
    strict.version_min = strict.version_max = version;

    TlsOptions options = trusting();
    const Error wanted = failure(options, strict);
    EXPECT_EQ(wanted.code, ErrorCode::kInvalidArgument);
    EXPECT_TRUE(has(wanted, "wants a client certificate")) << wanted.message;
    EXPECT_TRUE(has(wanted, "cert=")) << wanted.message;

    options.certificate_file = strange.certificate;
    options.key_file = strange.key;
    const Error refused = failure(options, strict);
    EXPECT_EQ(refused.code, ErrorCode::kInvalidArgument);
    EXPECT_TRUE(has(refused, "refuses our client certificate")) << refused.message;
    EXPECT_TRUE(has(refused, "does not know the CA")) << refused.message;
    EXPECT_TRUE(has(refused, strange.certificate)) << refused.message;

    options.certificate_file = old.certificate;
    options.key_file = old.key;
    EXPECT_TRUE(has(failure(options, strict), "it has expired"));

    options.certificate_file = ours.certificate;
    options.key_file = ours.key;
    MemoryClient one = client(options);
    TlsMemoryServer peer{strict};
    converse(one, peer);
    EXPECT_EQ(one.openings, 1);
    EXPECT_FALSE(one.error);
  }
}

TEST_F(TlsSessionTest, SaysThatTheProtocolIsTooOld) {
  TlsServerSpec old = server();
  old.version_max = TLS1_2_VERSION;
  TlsOptions strict = trusting();
  strict.version_min = TlsVersion::k1_3;
  const Error at_1_3 = failure(strict, old);
  EXPECT_EQ(at_1_3.code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(has(at_1_3, "version is too low")) << at_1_3.message;
  EXPECT_TRUE(has(at_1_3, "tls_min=1.2")) << at_1_3.message;

  old.version_min = old.version_max = TLS1_1_VERSION;
  const Error at_1_2 = failure(trusting(), old);
  EXPECT_EQ(at_1_2.code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(has(at_1_2, "version is too low")) << at_1_2.message;
}

TEST_F(TlsSessionTest, KnowsAServerThatDoesNotSpeakTls) {
  for (const char* said : {"-ERR unknown command", "+OK\r\n", "-", "$5\r\n", "*1\r\n", ":1\r\n"}) {
    MemoryClient one = client(trusting());
    one.give(said, 1);
    ASSERT_TRUE(one.error);
    EXPECT_EQ(one.error->code, ErrorCode::kInvalidArgument);
    EXPECT_TRUE(has(*one.error, "redis://")) << one.error->message;
  }
  for (const std::string_view said : {"HTTP/1.1 400 Bad Request\r\n", "\0", "\x80\x2e", "\xff"}) {
    MemoryClient one = client(trusting());
    one.give(said.empty() ? std::string_view{"\0", 1} : said);
    ASSERT_TRUE(one.error);
    EXPECT_EQ(one.error->code, ErrorCode::kProtocol);
    EXPECT_TRUE(has(*one.error, "does not speak TLS")) << one.error->message;
  }
}

// All that a server says in a conversation: the handshake, its tickets, and `text`.
std::string transcript(MemoryClient& client, TlsMemoryServer& server, std::string_view text) {
  std::string said;
  for (;;) {
    const std::string up = client.take();
    if (up.empty()) break;
    server.give(up);
    std::string down = server.take();
    client.give(down);
    said += down;
  }
  server.write(text);
  SSL_shutdown(server.ssl());
  const std::string last = server.take();
  client.give(last);
  return said + last;
}

TEST_F(TlsSessionTest, EndsAtCloseNotifyAndSaysItToo) {
  MemoryClient one = client(trusting());
  TlsMemoryServer peer{server()};
  static_cast<void>(transcript(one, peer, "last words"));
  EXPECT_EQ(one.received, "last words");
  EXPECT_TRUE(one.is_ended);
  EXPECT_TRUE(one.session->write("too late"));  // Goes nowhere, as to a closed socket.
  EXPECT_EQ(*one.session->next(), TlsSession::Event::kEnded);

  MemoryClient other = client(trusting());
  TlsMemoryServer left{server()};
  converse(other, left);
  other.session->close();
  left.give(other.take());
  EXPECT_EQ(SSL_get_shutdown(left.ssl()), SSL_RECEIVED_SHUTDOWN);
}

// A stream that is cut off anywhere is no error of the session: it starves.
TEST_F(TlsSessionTest, StarvesWhereverTheStreamIsCutOff) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsServerSpec spec = server();
    spec.version_min = spec.version_max = version;
    const std::size_t whole = [&] {
      MemoryClient one = client(trusting());
      TlsMemoryServer peer{spec};
      converse(one, peer);
      return BIO_number_written(SSL_get_wbio(peer.ssl()));
    }();
    ASSERT_GT(whole, 100u);
    for (std::size_t cut = 0; cut < whole; cut += 1 + cut / 64) {
      MemoryClient one = client(trusting());
      TlsMemoryServer peer{spec};
      std::size_t left = cut;
      for (;;) {
        const std::string up = one.take();
        if (!up.empty()) peer.give(up);
        std::string down = peer.take();
        down.resize(std::min(down.size(), left));
        left -= down.size();
        one.give(down);
        if (up.empty() || left == 0) break;
      }
      EXPECT_FALSE(one.error) << cut << ": " << one.error->to_string();
      EXPECT_FALSE(one.is_ended);
      EXPECT_EQ(one.received, "");
    }
  }
}

// One byte that is wrong, at any place, ends it: with an error, or starving for what a damaged
// length promises; never with bytes that were not sent. (The minor version in the first record is
// not looked at by anybody: RFC 8446, 5.1.)
TEST_F(TlsSessionTest, NeverDeliversWhatWasDamaged) {
  const std::string text = pattern(300);
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsServerSpec spec = server();
    spec.version_min = spec.version_max = version;
    int errors = 0;
    int rounds = 0;
    for (std::size_t at = 0;; at += 1 + at / 100) {
      MemoryClient one = client(trusting());
      TlsMemoryServer peer{spec};
      std::size_t seen = 0;
      const auto damage = [&](std::string wire) {
        if (at >= seen && at < seen + wire.size()) wire[at - seen] ^= 0x21;
        seen += wire.size();
        return wire;
      };
      for (;;) {
        const std::string up = one.take();
        if (up.empty()) break;
        peer.give(up);
        one.give(damage(peer.take()));
        if (one.error) break;
      }
      if (one.openings == 1 && !one.error) {
        peer.write(text);
        one.give(damage(peer.take()), 1);
      }
      if (at >= seen && !one.error) {
        EXPECT_TRUE(one.received == text);
        break;
      }
      if (at == 2 && one.received == text) continue;
      EXPECT_TRUE(one.received.empty()) << at;
      errors += one.error ? 1 : 0;
      ++rounds;
    }
    EXPECT_GT(rounds, 100);
    EXPECT_GT(errors, rounds / 2);
  }
}

TEST_F(TlsSessionTest, SurvivesGarbageInPlaceOfAnything) {
  std::uint32_t random = 1;
  const auto garbage = [&random](std::size_t bytes) {
    std::string text(bytes, '\0');
    for (char& c : text) {
      random = random * 1664525 + 1013904223;
      c = static_cast<char>(random >> 24);
    }
    return text;
  };
  for (int round = 0; round < 300; ++round) {
    MemoryClient one = client(trusting());
    TlsMemoryServer peer{server()};
    const bool is_open = round % 2 == 0;
    if (is_open) converse(one, peer);
    std::string bytes = garbage(1 + static_cast<std::size_t>(round));
    // Half of them look like a record.
    if (round % 4 < 2) bytes = std::string{"\x16\x03\x03\x00\x40", 5} + bytes;
    one.give(bytes, round % 3 == 0 ? 1 : 100);
    EXPECT_EQ(one.received, "");
    EXPECT_EQ(one.openings, is_open ? 1 : 0);
    EXPECT_FALSE(one.is_ended);
  }
}

TEST_F(TlsSessionTest, GoesOnThroughKeyUpdatesAndTickets) {
  for (const std::size_t piece : {std::size_t{1}, std::size_t{100'000}}) {
    MemoryClient one = client(trusting());
    TlsServerSpec spec = server();
    spec.version_min = TLS1_3_VERSION;
    TlsMemoryServer peer{spec};
    converse(one, peer, piece);
    std::string sent_up;
    std::string sent_down;
    for (int round = 0; round < 20; ++round) {
      const std::string text = pattern(static_cast<std::size_t>(round) * 100 + 1);
      if (round % 2 == 0) {
        SSL_key_update(peer.ssl(), SSL_KEY_UPDATE_REQUESTED);
      } else {
        SSL_new_session_ticket(peer.ssl());
      }
      peer.write(text);
      sent_down += text;
      ASSERT_TRUE(one.session->write(text));
      sent_up += text;
      converse(one, peer, piece);
      ASSERT_FALSE(one.error) << one.error->to_string();
    }
    EXPECT_TRUE(one.received == sent_down);
    EXPECT_TRUE(peer.received() == sent_up);
  }
}

// OpenSSL refuses to send between the bytes of such a message; what is written then must wait, not
// fail and not overtake.
TEST_F(TlsSessionTest, WritesBetweenTheBytesOfATicket) {
  TlsOptions options = trusting();
  const CertificateFiles ours = authority_.issue();
  options.certificate_file = ours.certificate;
  options.key_file = ours.key;
  MemoryClient one = client(options);
  TlsServerSpec spec = server();
  spec.version_min = TLS1_3_VERSION;
  spec.client_ca = authority_.file();
  TlsMemoryServer peer{spec};
  converse(one, peer);
  // Our certificate makes the ticket too large for one record, and half of it can be decrypted.
  SSL_set_max_send_fragment(peer.ssl(), 512);
  SSL_new_session_ticket(peer.ssl());
  SSL_do_handshake(peer.ssl());
  const std::string wire = peer.take();
  ASSERT_GT(wire.size(), 512u);
  std::string sent;
  int waited = 0;
  for (std::size_t i = 0; i < wire.size(); ++i) {
    one.give(wire.substr(i, 1));
    ASSERT_FALSE(one.error) << one.error->to_string();
    const std::string before = one.session->output();
    const std::string word = std::to_string(i) + " ";
    ASSERT_TRUE(one.session->write(word));
    sent += word;
    if (one.session->output() == before) ++waited;
  }
  EXPECT_GT(waited, 10);
  converse(one, peer);
  EXPECT_EQ(peer.received(), sent);
}

TEST_F(TlsSessionTest, WritesWhileTheServerRenegotiates) {
  for (const std::size_t piece : {std::size_t{1}, std::size_t{100'000}}) {
    MemoryClient one = client(trusting());
    TlsServerSpec spec = server();
    spec.version_max = TLS1_2_VERSION;
    TlsMemoryServer peer{spec};
    converse(one, peer);
    ASSERT_EQ(one.openings, 1);
    ASSERT_EQ(SSL_renegotiate(peer.ssl()), 1);
    ASSERT_EQ(SSL_do_handshake(peer.ssl()), 1);  // Sends the HelloRequest.
    std::string sent;
    int waited = 0;
    for (int round = 0; round < 20; ++round) {
      const std::string down = peer.take();
      for (std::size_t at = 0; at < down.size(); at += piece) {
        one.give(down.substr(at, piece));
        ASSERT_FALSE(one.error) << one.error->to_string();
        const std::string before = one.session->output();
        const std::string word = std::to_string(round) + "," + std::to_string(at) + " ";
        ASSERT_TRUE(one.session->write(word));
        if (one.session->output() == before) ++waited;
        sent += word;
      }
      const std::string up = one.take();
      if (!up.empty()) peer.give(up);
    }
    EXPECT_GT(waited, 0);
    EXPECT_EQ(peer.received(), sent);
    EXPECT_EQ(one.openings, 1);
    peer.write("done");
    converse(one, peer);
    EXPECT_EQ(one.received, "done");
  }
}

}  // namespace
}  // namespace tiercel::l2
