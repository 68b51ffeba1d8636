#pragma once

// The reply to XRANGE or XREVRANGE over the history, as the coherence protocol takes it.

#include <cstddef>
#include <optional>

#include "tiercel/coherence/session.h"
#include "tiercel/l2/reply.h"

namespace tiercel {

// Of a question for `count` entries. An entry that cannot be read is a change of unknown extent.
// Nothing where the reply is not of that form: an error, say.
[[nodiscard]] std::optional<coherence::HistoryPage> parse_history_page(const l2::Reply& reply,
                                                                       std::size_t count);

}  // namespace tiercel
