//! The checks of a [`CheckpointStore`].

mod claims;
mod client;
mod model;
mod positions;
mod saves;

use coordinator_core::CheckpointStore;

/// The list of checks: name, what it covers, what it shows. One list makes the table and the tests.
#[doc(hidden)]
#[macro_export]
macro_rules! __checkpoints_checks {
    ($then:path, $($head:tt)*) => {
        $then! { $($head)*;
            claims::a_saved_position_is_loaded ["checkpoints 1", "C1", "H14"]
                "A shard starts without a position, and gives each owner the last one saved.";
            claims::loading_shuts_out_older_owners ["checkpoints 1", "checkpoints 2", "C1", "H8", "H14"]
                "Once a newer owner has loaded, an older one can neither save nor load.";
            claims::of_many_claims_the_highest_stays ["checkpoints 1", "checkpoints ordering"]
                "Of many claims at once the highest token holds the shard.";
            saves::a_refused_save_changes_nothing ["checkpoints 2", "H14"]
                "A position saved with a token below the fence is not loaded by anybody.";
            saves::a_late_duplicate_moves_nothing_back ["checkpoints 3", "H14"]
                "A save numbered no higher than the last one is superseded; the very same one is saved.";
            saves::each_token_counts_anew ["checkpoints 3"]
                "The first save of a new owner is stored, however many its predecessor made.";
            saves::loading_again_does_not_count_anew ["checkpoints 3"]
                "A late duplicate moves nothing back after its own token has loaded again, either.";
            saves::a_save_above_the_fence_claims ["checkpoints 4", "C2"]
                "A save with a higher token than any that claimed shuts the older ones out.";
            saves::a_save_without_any_claim_is_refused ["checkpoints 4"]
                "Where nobody ever claimed, a save is refused, and claims nothing.";
            claims::a_store_that_forgot_refuses_its_old_owners ["checkpoints 4", "E20"]
                "After a loss of memory an owner that has not loaded again cannot save.";
            positions::shards_do_not_touch_each_other ["checkpoints 5", "M6"]
                "Shards, keyspaces and groups that look alike are kept apart.";
            positions::namespaces_do_not_touch_each_other ["checkpoints 5", "M6"]
                "A shard of one namespace is unclaimed in another.";
            positions::positions_outlast_leases ["checkpoints 6"]
                "A position and its fence are kept when every lease has long ended.";
            positions::positions_survive_a_restart ["checkpoints 6", "E20"]
                "A restart of the store loses no position, and no fence.";
            positions::too_long_a_position_is_rejected ["checkpoints 7", "B5"]
                "A position over its limit is rejected; one at the limit is kept.";
            positions::a_position_is_kept_as_it_is ["checkpoints 1", "B4"]
                "What is loaded is the text that was saved.";
            positions::connections_name_their_store ["checkpoints store"]
                "Connections to one namespace name one store, those to another namespace another.";
            model::random_calls_match_the_model ["checkpoints 1", "checkpoints 2", "checkpoints 3", "checkpoints 4", "checkpoints 5"]
                "A random sequence of calls is answered as a plain model of fences answers it.";
        }
    };
}

__checkpoints_checks! { crate::macros::table, checkpoints, dyn CheckpointStore }
