#pragma once

// UniqueFunction<R(Args...)>: a callable that can be moved but not copied, so that it may own what
// it captures (C++23's std::move_only_function, which C++20 lacks). Callables of up to six words
// that move without throwing live inside it; larger ones cost one allocation. Calling an empty one
// is a bug and aborts.

#include <concepts>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "tiercel/base/check.h"

namespace tiercel {

template <typename Signature>
class UniqueFunction;

template <typename R, typename... Args>
class UniqueFunction<R(Args...)> {
 public:
  UniqueFunction() noexcept = default;
  UniqueFunction(std::nullptr_t) noexcept {}  // NOLINT(google-explicit-constructor)

  template <typename F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, UniqueFunction> &&
           std::is_invocable_r_v<R, std::decay_t<F>&, Args...>)
      UniqueFunction(F&& function) {  // NOLINT(google-explicit-constructor)
    using Stored = std::decay_t<F>;
    // All of them are copied by a move, so none may be undefined.
    if constexpr (kIsBytes<Stored>) std::memset(storage_, 0, kInlineBytes);
    if constexpr (fits_inline<Stored>()) {
      ::new (static_cast<void*>(storage_)) Stored(std::forward<F>(function));
    } else {
      ::new (static_cast<void*>(storage_)) Stored*(new Stored(std::forward<F>(function)));
    }
    table_ = &kTableFor<Stored>;
  }

  UniqueFunction(UniqueFunction&& other) noexcept { take(other); }
  UniqueFunction& operator=(UniqueFunction&& other) noexcept {
    // By way of a third, since what we hold may own `other`, or be reached from its destructor.
    UniqueFunction taken{std::move(other)};
    reset();
    take(taken);
    return *this;
  }
  UniqueFunction(const UniqueFunction&) = delete;
  UniqueFunction& operator=(const UniqueFunction&) = delete;
  ~UniqueFunction() { reset(); }

  explicit operator bool() const noexcept { return table_ != nullptr; }

  R operator()(Args... args) {
    TIERCEL_CHECK(table_ != nullptr);
    return table_->call(storage_, std::forward<Args>(args)...);
  }

 private:
  static constexpr std::size_t kInlineBytes = 6 * sizeof(void*);

  struct Table {
    R (*call)(void*, Args&&...);
    void (*move)(void* from, void* to) noexcept;  // Null: by copying the bytes,
    void (*destroy)(void*) noexcept;              // and then there is nothing to destroy.
  };

  template <typename F>
  static constexpr bool fits_inline() {
    return sizeof(F) <= kInlineBytes && alignof(F) <= alignof(std::max_align_t) &&
           std::is_nothrow_move_constructible_v<F>;
  }

  template <typename F>
  static F& target(void* storage) noexcept {
    if constexpr (fits_inline<F>()) {
      return *std::launder(static_cast<F*>(storage));
    } else {
      return **std::launder(static_cast<F**>(storage));
    }
  }

  // Most callbacks capture pointers and numbers: they need no calls to be moved and destroyed.
  template <typename F>
  static constexpr bool kIsBytes = fits_inline<F>() && std::is_trivially_copyable_v<F>;

  template <typename F>
  static R call(void* storage, Args&&... args) {
    if constexpr (std::is_void_v<R>) {
      target<F>(storage)(std::forward<Args>(args)...);
    } else {
      return target<F>(storage)(std::forward<Args>(args)...);
    }
  }
  template <typename F>
  static void move(void* from, void* to) noexcept {
    if constexpr (fits_inline<F>()) {
      ::new (to) F(std::move(target<F>(from)));
      target<F>(from).~F();
    } else {
      ::new (to) F*(&target<F>(from));
    }
  }
  template <typename F>
  static void destroy(void* storage) noexcept {
    if constexpr (fits_inline<F>()) {
      target<F>(storage).~F();
    } else {
      delete &target<F>(storage);
    }
  }
  template <typename F>
  static constexpr Table kTableFor{&call<F>, kIsBytes<F> ? nullptr : &move<F>,
                                   kIsBytes<F> ? nullptr : &destroy<F>};

  void take(UniqueFunction& other) noexcept {
    if (other.table_ == nullptr) return;
    if (other.table_->move != nullptr) {
      other.table_->move(other.storage_, storage_);
    } else {
      std::memcpy(storage_, other.storage_, kInlineBytes);
    }
    table_ = std::exchange(other.table_, nullptr);
  }

  void reset() noexcept {
    if (table_ == nullptr) return;
    const Table* const table = std::exchange(table_, nullptr);
    if (table->destroy != nullptr) table->destroy(storage_);
  }

  alignas(std::max_align_t) std::byte storage_[kInlineBytes];
  const Table* table_ = nullptr;
};

}  // namespace tiercel
