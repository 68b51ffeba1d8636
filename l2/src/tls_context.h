#pragma once

// TlsContext: what all TLS connections of a client share: trusted CAs, our certificate and key, the
// minimum version. Loop thread only, but for create().
//
// There is no session resumption: see docs/decisions/0015-tls-in-memory.md.

#include <openssl/types.h>
#include <sys/stat.h>

#include <array>
#include <memory>
#include <string>

#include "tiercel/base/log.h"
#include "tiercel/base/result.h"
#include "tiercel/l2/options.h"
#include "tls_session.h"

namespace tiercel::l2 {

class TlsContext {
 public:
  // Reads the files. Errors: kInvalidArgument naming the option, the file and what is wrong with
  // it.
  static Result<std::shared_ptr<TlsContext>> create(TlsOptions options, LogSink log);
  // The same, or null where these options say nothing of TLS.
  static Result<std::shared_ptr<TlsContext>> create_if_wanted(const RedisOptions& redis,
                                                              const LogSink& log) {
    if (!redis.tls) return std::shared_ptr<TlsContext>{};
    return create(*redis.tls, log);
  }
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // A session whose ClientHello is ready. Reads the files again first if they have changed; keeps
  // what it has if they are bad now, and logs that. The context must outlive it. Errors: as
  // TlsSession::create.
  Result<std::unique_ptr<TlsSession>> open_session(const std::string& name);

 private:
  struct FreeContext {
    void operator()(SSL_CTX* context) const noexcept;
  };
  using ContextPtr = std::unique_ptr<SSL_CTX, FreeContext>;
  // Of each file, as much as tells whether it was changed.
  struct Stamp {
    dev_t device = 0;
    ino_t inode = 0;
    off_t bytes = 0;
    timespec changed_at{};
    bool operator==(const Stamp& other) const noexcept;
  };
  using Stamps = std::array<Stamp, 3>;

  TlsContext(TlsOptions options, LogSink log);

  [[nodiscard]] Stamps stamps() const;
  void refresh();
  Result<ContextPtr> load() const;
  Result<void> load_trust(SSL_CTX& context) const;
  Result<void> load_certificate(SSL_CTX& context) const;

  const TlsOptions options_;
  const LogSink log_;
  ContextPtr context_;
  Stamps loaded_stamps_;  // Of what context_ was made of.
  Stamps tried_stamps_;   // Of what was read last, good or bad.
};

// To whom a connection speaks TLS, if at all.
struct TlsTarget {
  std::shared_ptr<TlsContext> context{};  // Null: plain.
  std::string name{};                     // Empty: the host that is dialled.
};

}  // namespace tiercel::l2
