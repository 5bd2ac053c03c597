//! The checks of a [`ClusterBus`].

mod arrival;
mod client;
mod durable;
mod faults;
mod model;
mod order;
mod slow;
mod topics;

use coordinator_core::ClusterBus;

/// The list of checks: name, what it covers, what it shows. One list makes the table and the tests.
#[doc(hidden)]
#[macro_export]
macro_rules! __bus_checks {
    ($then:path, $($head:tt)*) => {
        $then! { $($head)*;
            arrival::a_frame_arrives_as_it_was_sent ["bus 1", "B4"]
                "Every field and every byte of a frame arrives, whatever its payload.";
            arrival::sizes_around_every_limit_arrive ["bus 1", "B5", "B6"]
                "Payloads of sizes around the usual limits, and the bus's own, arrive whole.";
            topics::odd_topics_arrive ["bus 1", "bus 5", "B10"]
                "Topics with odd names, and the longest ones, are kept apart.";
            order::a_batch_arrives_in_order ["bus 2"]
                "The frames of one call, and of calls that follow each other, arrive in order.";
            order::order_holds_across_sizes ["bus 2", "B7"]
                "Large frames and small ones of one publisher do not overtake each other.";
            arrival::every_subscriber_gets_each_frame_once ["bus 3", "B1"]
                "Each subscription, of each connection, gets each frame once.";
            arrival::the_publisher_gets_its_own_frames ["bus 3", "B2"]
                "One's own frames arrive too, once.";
            arrival::a_subscription_is_live_when_it_returns ["bus 4", "B17"]
                "What is published once `subscribe` has returned arrives.";
            topics::nothing_arrives_from_other_topics ["bus 5"]
                "A subscription gets its own topics, and no other.";
            topics::a_dropped_subscription_hurts_nobody ["bus 5", "bus 7", "B3", "B11"]
                "After some feeds were dropped, publishing and the others go on.";
            topics::namespaces_do_not_hear_each_other ["bus 5", "M6"]
                "A topic of one namespace is silent in another.";
            faults::a_cut_feed_says_so_and_comes_back ["bus 6", "B9", "U4"]
                "A cut is told as `Disconnected`, and the feed is live again once it says `Connected`.";
            durable::a_durable_bus_replays_from_its_cursors ["bus 6", "B18"]
                "Each frame has a cursor, and a subscription after it gets what followed, in order.";
            durable::a_durable_bus_keeps_what_was_published ["bus 6"]
                "A subscription from the oldest gets what was published before it.";
            slow::a_slow_feed_holds_up_nobody ["bus 7", "B11"]
                "A feed that nobody reads stops neither publishers nor other feeds.";
            slow::what_a_slow_feed_misses_is_seen ["bus 7", "B11"]
                "A slow feed gets frames in order and once; what is missing shows, by a gap or by the sequences.";
            order::rapid_messages_all_arrive ["bus 3", "B16"]
                "Two thousand messages in quick succession all arrive, while they are read.";
            arrival::too_large_a_payload_is_rejected ["bus 8", "B13"]
                "A payload over the limit is rejected, and what was sent before and after arrives.";
            durable::the_past_is_rejected_by_a_bus_that_keeps_nothing ["bus 9"]
                "A bus that is not durable rejects subscriptions from the past.";
            topics::a_wait_for_a_frame_can_be_dropped ["bus cancel safety"]
                "A dropped `next` loses nothing.";
            model::random_calls_match_the_model ["bus 2", "bus 3", "bus 4", "bus 5"]
                "A random sequence of calls delivers what a plain model of a bus delivers.";
        }
    };
}

__bus_checks! { crate::macros::table, bus, dyn ClusterBus }
