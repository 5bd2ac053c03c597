//! The checks of a [`LockBackend`].

mod claims;
mod client;
mod grants;
mod hints;
mod loss;
mod model;
mod names;
mod releases;
mod tokens;

use coordinator_core::LockBackend;

/// The list of checks: name, what it covers, what it shows. One list makes the table and the tests.
#[doc(hidden)]
#[macro_export]
macro_rules! __lock_checks {
    ($then:path, $($head:tt)*) => {
        $then! { $($head)*;
            grants::of_many_claims_at_once_one_is_granted ["lock 1", "lock 6", "E10"]
                "Of many clients that claim a free key at once, one gets it, and the others are told who.";
            grants::a_rival_is_refused_and_told_who_holds ["lock 1", "lock 6", "E2", "E11", "E17"]
                "A held key is refused at once, to others and to new claims of its own holder, with the holder's name, instance and token.";
            grants::a_grant_lasts_its_whole_ttl ["lock 1", "lock 2"]
                "A grant is not given away before its TTL has passed.";
            grants::a_renewal_lasts_a_whole_ttl ["lock 2"]
                "A renewal prolongs the grant to a whole TTL from then.";
            grants::a_silent_holder_loses_its_lease ["lock 1", "lock 8"]
                "A grant that is not renewed ends by itself.";
            tokens::tokens_rise_over_releases ["lock 3", "K1", "E15"]
                "Each grant after a release has a higher token.";
            tokens::tokens_rise_over_expiry ["lock 3", "K1", "K3", "E15"]
                "A grant after an expiry has a higher token.";
            tokens::tokens_exceed_the_floor ["lock 3", "K1"]
                "A token is higher than what the asker has seen.";
            tokens::a_floor_from_far_ahead_is_ignored ["lock 3", "K1", "K2"]
                "A floor more than a day ahead of the store does not use its numbers up.";
            tokens::tokens_rise_over_a_restart ["lock 3", "K4", "E15", "E20"]
                "A restart of the store repeats no token and forgets no lease.";
            claims::asking_again_is_the_same_grant ["lock 4", "W4"]
                "A claim asked for twice is one grant with one token.";
            claims::asking_again_prolongs_nothing ["lock 4"]
                "The second asking does not make the grant last longer.";
            claims::a_released_claim_is_never_granted_again ["lock 4", "R1"]
                "A claim that was released is rejected.";
            claims::a_new_process_under_an_old_name_claims_anew ["lock 4", "T4", "E12"]
                "The same owner and claim number from another instance is another claim.";
            claims::a_dropped_acquire_can_be_withdrawn ["lock 4", "E19", "W4"]
                "After a call dropped half-way, asking again and releasing frees the key.";
            releases::only_the_grant_itself_is_renewed ["lock 5"]
                "Another token, or another instance, renews nothing.";
            releases::an_expired_grant_is_not_renewed ["lock 5", "R2"]
                "Nothing revives an expired grant, though nobody has taken the key since.";
            releases::a_superseded_grant_is_not_renewed ["lock 5", "E12"]
                "The old holder's renewal neither succeeds nor prolongs its successor's grant.";
            releases::a_stale_token_releases_nothing ["lock 5", "L2"]
                "Only the grant's own token and instance release it.";
            releases::acquire_waits_for_no_holder ["lock 6"]
                "A claim for a held key is answered long before the holder's TTL has passed.";
            releases::a_release_frees_at_once ["lock 7", "E3"]
                "What was released can be had at once.";
            releases::a_release_after_a_loss_is_answered ["lock 7", "lock 5", "E13"]
                "A release after an expiry, and a second release, are `NotHeld`.";
            releases::a_lease_kept_for_a_successor_is_its ["lock 7", "P10"]
                "A lease released for a member goes to that member, if the backend keeps it.";
            releases::a_lease_is_not_kept_for_long ["lock 7", "P10"]
                "If the successor does not come, others get the lease after a second.";
            hints::the_holder_is_told_truly ["lock 8", "E17"]
                "`holder` tells of a grant while it lasts, and of nobody before and after.";
            hints::a_lease_is_said_to_last_no_longer_than_its_ttl ["lock 8"]
                "`free_in` is within the TTL.";
            hints::a_waiter_is_woken_by_a_release ["lock 9", "E3", "L3"]
                "`wait_turn` returns soon after a release.";
            hints::waiters_are_served_in_order ["lock 9", "L3"]
                "Waiters get the lease in the order in which they began to wait.";
            hints::hints_grant_nothing ["lock 9", "E19"]
                "Waiting and dropping the wait leave no lease behind, and end none.";
            loss::a_store_that_forgot_grants_nothing_at_first ["lock 10", "I2", "E20"]
                "After a loss of memory nothing is granted until the quarantine has passed.";
            loss::tokens_rise_over_a_loss_of_memory ["lock 3", "lock 10", "K4", "E15", "E20"]
                "After a loss of memory tokens still rise.";
            loss::a_holder_registers_again_after_a_loss_of_memory ["lock 10", "I6"]
                "During the quarantine a holder renews with its old token, and holds its lease.";
            loss::an_older_holder_does_not_register_over_a_newer ["lock 10", "I6"]
                "A token below the highest known one is not registered again.";
            loss::tokens_rise_over_lost_writes ["lock 3", "lock 10", "K4", "I2", "E20"]
                "A fail-over that loses the last writes repeats no token, and quarantines.";
            loss::a_cut_client_is_not_answered ["lock errors", "E19"]
                "What passes for unreachable did not happen, and nothing is answered through a cut.";
            names::keys_do_not_touch_each_other ["lock 1", "L1"]
                "Keys that look alike, and the longest ones, are kept apart.";
            names::namespaces_do_not_touch_each_other ["lock 1", "M6"]
                "A key of one namespace is free in another.";
            names::connections_name_their_store ["lock store"]
                "Connections to one namespace name one store, those to another namespace another.";
            names::a_malformed_key_is_rejected ["lock 11"]
                "An empty key, and one that is too long, is rejected.";
            names::a_ttl_out_of_bounds_is_rejected ["lock 11", "I4"]
                "No TTL, and one over the namespace's longest, is rejected, and nothing is granted.";
            model::random_calls_match_the_model ["lock 1", "lock 3", "lock 4", "lock 5", "lock 8"]
                "A random sequence of calls is answered as a plain model of leases answers it.";
        }
    };
}

__lock_checks! { crate::macros::table, lock, dyn LockBackend }
