#pragma once

// The protocol's scripts, as the client sends them.

#include "tiercel/coherence/guard_scripts.h"
#include "tiercel/coherence/scripts.h"
#include "tiercel/l2/command.h"

namespace tiercel {

#define TIERCEL_SCRIPT(name, source)                   \
  inline const l2::Script& name() {                    \
    static const l2::Script script{coherence::source}; \
    return script;                                     \
  }
TIERCEL_SCRIPT(write_script, kWriteScript)
TIERCEL_SCRIPT(write_many_script, kWriteManyScript)
TIERCEL_SCRIPT(write_if_script, kWriteIfScript)
TIERCEL_SCRIPT(write_unversioned_script, kWriteUnversionedScript)
TIERCEL_SCRIPT(invalidate_many_script, kInvalidateManyScript)
TIERCEL_SCRIPT(invalidate_tags_script, kInvalidateTagsScript)
TIERCEL_SCRIPT(clear_script, kClearScript)
TIERCEL_SCRIPT(read_tags_script, kReadTagsScript)
TIERCEL_SCRIPT(begin_fills_script, kBeginFillsScript)
TIERCEL_SCRIPT(finish_fills_script, kFinishFillsScript)
TIERCEL_SCRIPT(abandon_fill_script, kAbandonFillScript)
TIERCEL_SCRIPT(register_lease_script, kRegisterLeaseScript)
TIERCEL_SCRIPT(acquire_lock_script, kAcquireLockScript)
TIERCEL_SCRIPT(renew_lock_script, kRenewLockScript)
TIERCEL_SCRIPT(release_lock_script, kReleaseLockScript)
TIERCEL_SCRIPT(newest_script, kNewestScript)
TIERCEL_SCRIPT(audit_script, kAuditScript)
TIERCEL_SCRIPT(guard_read_script, kGuardReadScript)
TIERCEL_SCRIPT(guard_change_script, kGuardChangeScript)
TIERCEL_SCRIPT(guard_merge_script, kGuardMergeScript)
TIERCEL_SCRIPT(guard_lease_script, kGuardLeaseScript)
#undef TIERCEL_SCRIPT

}  // namespace tiercel
