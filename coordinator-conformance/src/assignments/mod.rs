//! The checks of an [`AssignmentStore`](coordinator_core::AssignmentStore), and of the members in
//! the same store.

mod client;
mod documents;
mod ends;
mod epochs;
mod loss;
mod model;
mod swaps;

use crate::fixture::Planning;

/// The list of checks: name, what it covers, what it shows. One list makes the table and the tests.
#[doc(hidden)]
#[macro_export]
macro_rules! __assignments_checks {
    ($then:path, $($head:tt)*) => {
        $then! { $($head)*;
            swaps::a_swap_replaces_only_what_is_expected ["assignments 1", "S2", "H9"]
                "A document is stored only over the epoch that the planner expects.";
            swaps::of_many_swaps_at_once_one_is_stored ["assignments 1", "S2"]
                "Of many swaps over one epoch at once, one is stored, and the others conflict.";
            swaps::a_lower_planner_is_fenced ["assignments 1", "assignments 4"]
                "Who leads or swaps with a higher token shuts the lower ones out.";
            ends::a_life_that_lasts_is_not_ended ["assignments 1", "S2", "G1"]
                "A swap that counts a live member as ended is refused, and ends nobody.";
            ends::a_due_life_becomes_a_tombstone ["assignments 1", "G1"]
                "A swap may count a due life as ended, and ends it for good.";
            ends::a_life_that_left_has_ended ["assignments 1", "H3"]
                "A swap may count who has left as ended, and whoever was a tombstone before.";
            ends::an_evicted_life_ends_with_its_ttl ["assignments 1", "S4"]
                "Who was put out has not ended before its last TTL has passed.";
            ends::a_swap_is_all_or_nothing ["assignments 1"]
                "A swap that is refused for any reason makes no tombstone.";
            ends::a_life_without_a_record_is_not_ended ["assignments 2", "G7", "M3"]
                "Absence is no end: a life that the store does not know is refused.";
            epochs::epochs_rise ["assignments 3", "K1"]
                "Each stored document has a higher epoch.";
            epochs::epochs_exceed_the_floor ["assignments 3", "K1", "K2"]
                "An epoch is higher than the planner has seen, unless that is far ahead of the store.";
            epochs::epochs_rise_over_a_restart ["assignments 3", "assignments 5", "K4", "E20"]
                "A restart of the store loses no document, and repeats no epoch.";
            epochs::leading_reads_and_makes_no_epoch ["assignments 4"]
                "`lead` gives the newest document, as it is.";
            documents::a_document_is_kept_byte_for_byte ["assignments 5", "B4"]
                "What is loaded is what was swapped in, whatever its bytes.";
            documents::keyspaces_and_groups_do_not_touch_each_other ["assignments 6", "M6"]
                "Documents and planner tokens of keyspaces and groups that look alike are kept apart.";
            documents::lives_of_other_groups_are_unknown ["assignments 6", "assignments 2", "M6"]
                "A life that ended in another group has not ended in this one.";
            documents::namespaces_do_not_touch_each_other ["assignments 6", "M6"]
                "A keyspace of one namespace is empty in another.";
            loss::a_store_that_forgot_refuses_swaps_at_first ["assignments 7", "I2", "E20"]
                "After a loss of memory nothing is stored until the quarantine has passed.";
            loss::epochs_rise_over_a_loss_of_memory ["assignments 3", "assignments 7", "K4", "E20"]
                "After a loss of memory epochs still rise.";
            documents::too_large_a_document_is_rejected ["assignments 8", "S10"]
                "A document over its limit is rejected; one at the limit is kept.";
            documents::hints_change_nothing ["assignments 9"]
                "Waiting for a change and dropping the wait leave nothing behind.";
            documents::members_and_assignments_are_one_store ["assignments store"]
                "Both name one store, the same over all connections of a namespace.";
            model::random_calls_match_the_model ["assignments 1", "assignments 3", "assignments 4", "assignments 5", "assignments 6"]
                "A random sequence of calls is answered as a plain model of documents answers it.";
        }
    };
}

__assignments_checks! { crate::macros::table, assignments, Planning }
