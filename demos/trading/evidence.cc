#include "trading/evidence.h"

#include <algorithm>
#include <sstream>

namespace tiercel::trading {

std::string to_line(const Accepted& accepted) {
  std::ostringstream line;
  line << "accepted " << accepted.rule << ' ' << accepted.revision << ' ' << accepted.orders << ' '
       << accepted.last_at.time_since_epoch().count();
  return line.str();
}

Result<Accepted> parse_accepted(const std::string& line) {
  std::istringstream words{line};
  std::string word;
  Duration::rep at = 0;
  Accepted accepted;
  words >> word >> accepted.rule >> accepted.revision >> accepted.orders >> at;
  if (!words || word != "accepted" || accepted.rule >= kRules) {
    return protocol_error("not what a gateway says: '" + line + "'");
  }
  accepted.last_at = TimePoint{Duration{at}};
  return accepted;
}

Finding examine(const Superseded& superseded, std::span<const Accepted> accepted, Duration lease) {
  Finding finding;
  for (const Accepted& of_gateway : accepted) {
    if (of_gateway.rule != superseded.rule || of_gateway.revision != superseded.revision) continue;
    finding.orders += of_gateway.orders;
    const Duration after = of_gateway.last_at - superseded.acknowledged_at;
    finding.last_after = std::max(finding.last_after.value_or(after), after);
  }
  const Duration most = superseded.is_fenced ? Duration{0} : lease;
  finding.is_as_promised = !finding.last_after || *finding.last_after <= most;
  return finding;
}

}  // namespace tiercel::trading
