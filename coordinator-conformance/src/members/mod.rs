//! The checks of a [`MembershipStore`].

mod beats;
pub(crate) mod client;
mod ends;
mod joins;
mod limits;
mod lives;
mod loss;
mod model;
mod versions;

use coordinator_core::MembershipStore;

pub(crate) use joins::is_tombstone;

/// The list of checks: name, what it covers, what it shows. One list makes the table and the tests.
#[doc(hidden)]
#[macro_export]
macro_rules! __members_checks {
    ($then:path, $($head:tt)*) => {
        $then! { $($head)*;
            lives::a_member_is_listed_from_its_join ["members 1", "M1"]
                "Who has joined is in every snapshot from then on, with all it told about itself.";
            lives::a_member_lives_for_its_whole_ttl ["members 1"]
                "A member is live until its TTL has passed.";
            lives::a_heartbeat_prolongs_to_a_whole_ttl ["members 1", "M5"]
                "A heartbeat prolongs a life to a whole TTL from then.";
            lives::a_silent_member_is_live_no_longer ["members 1", "M1"]
                "A member that sends no heartbeat for its TTL is due.";
            lives::an_expired_member_is_never_revived ["members 1", "G1", "M2"]
                "A heartbeat of a due life is `Expired`, and changes nothing.";
            joins::incarnations_rise ["members 2", "K1", "M2"]
                "Each life of a name has a higher incarnation than the one before.";
            joins::incarnations_exceed_the_floor ["members 2", "K1", "K2"]
                "An incarnation is higher than the asker has seen, unless that is far ahead of the store.";
            loss::incarnations_rise_over_a_restart ["members 2", "K4", "E20"]
                "A restart of the store repeats no incarnation, and ends nobody.";
            loss::incarnations_rise_over_a_loss_of_memory ["members 2", "members 10", "K4"]
                "After a loss of memory incarnations still rise.";
            joins::joining_twice_is_one_life ["members 3"]
                "The same instance that joins again while it lives has the same life.";
            joins::of_many_that_join_under_one_name_one_does ["members 3", "members ordering"]
                "Of many instances that join at once under one name, one becomes the member.";
            joins::a_live_name_is_taken ["members 3", "G2"]
                "Another instance is told who lives under the name, and changes nothing.";
            joins::a_due_name_is_free_and_leaves_a_tombstone ["members 3", "members 8", "M2"]
                "Who joins under a due name begins a life, and the old one becomes a tombstone.";
            beats::an_old_heartbeat_changes_nothing ["members 4", "G1"]
                "A heartbeat with a number no higher than the last prolongs nothing, and reports nothing.";
            beats::seen_never_goes_back ["members 4", "S3", "H9"]
                "A lower `seen` in a newer heartbeat does not replace the higher one.";
            beats::draining_is_taken_from_the_newest_heartbeat ["members 4", "S3"]
                "A late heartbeat does not bring drained shards back.";
            ends::leaving_ends_a_life_at_once ["members 5", "M1"]
                "Who has left is a tombstone from then on, and cannot beat.";
            ends::leaving_touches_only_its_own_life ["members 5"]
                "A second leave, and one of an older life, end nothing.";
            ends::an_evicted_member_is_refused_and_lives_out_its_ttl ["members 6", "S4"]
                "After an eviction heartbeats are `Evicted`, and the life ends with its last TTL, not before.";
            ends::a_missing_record_is_entered_as_evicted ["members 6", "G7", "M3"]
                "A life that the store does not know has not ended: it is entered, and due after the longest TTL.";
            ends::evicting_the_ended_changes_nothing ["members 6"]
                "An eviction of a life that has ended is `Ended`.";
            versions::versions_grow_with_each_change ["members 7", "G3"]
                "Join, leave, tombstone, eviction and change of profile each make a new version of the members.";
            versions::versions_rest_without_changes ["members 7", "G3"]
                "Plain heartbeats, refused ones, and the passing of a TTL make no new version.";
            versions::reports_have_a_version_of_their_own ["members 7", "G3"]
                "A change of a report makes a new version of the reports, and of nothing else.";
            versions::news_comes_when_there_is_news ["members 7"]
                "An answer holds a snapshot if, and only if, what the asker knows is not the newest.";
            ends::tombstones_are_kept ["members 8", "S5"]
                "A tombstone stays, and tells how long ago the life ended.";
            ends::expiries_are_counted ["members 8", "S7"]
                "A tombstone tells how many lives of the name expired lately.";
            limits::groups_do_not_see_each_other ["members 9", "M6"]
                "Groups and names that look alike are kept apart.";
            limits::namespaces_do_not_see_each_other ["members 9", "M6"]
                "A group of one namespace is empty in another.";
            limits::connections_name_their_store ["members store"]
                "Connections to one namespace name one store, those to another namespace another.";
            loss::a_store_that_forgot_says_so ["members 10", "I1", "S12", "M3"]
                "After a loss of memory the memory identity is another, and whom the store does not know is `Expired`.";
            loss::a_store_that_forgot_ends_nobody_at_first ["members 10", "I2"]
                "During its quarantine a store makes no tombstones of silent members.";
            loss::a_static_name_waits_for_the_end_of_the_quarantine ["members 10", "members 2", "K1"]
                "A new process under a static name begins no life in the quarantine; one that knows its last number does.";
            limits::a_malformed_name_is_rejected ["members 11"]
                "Empty and over-long names of groups and members are rejected.";
            limits::a_ttl_out_of_bounds_is_rejected ["members 11", "I4"]
                "No TTL, and one over the namespace's longest, is rejected.";
            limits::too_much_metadata_is_rejected ["members 11"]
                "Metadata over its limit is rejected at join and heartbeat; at the limit it is kept.";
            limits::a_full_group_takes_nobody_more ["members 11", "S10"]
                "A group of the greatest size rejects a joiner, and goes on.";
            versions::hints_change_nothing ["members 12"]
                "Waiting for a change and dropping the wait leave nothing behind.";
            model::random_calls_match_the_model ["members 1", "members 2", "members 3", "members 4", "members 5"]
                "A random sequence of calls is answered as a plain model of members answers it.";
        }
    };
}

__members_checks! { crate::macros::table, members, dyn MembershipStore }
