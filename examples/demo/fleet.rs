//! The nodes, and what can be done to them: what the director of a run needs to know of a fleet.

use crate::faults::Fault;

pub(crate) const GROUP: &str = "demo";
pub(crate) const KEYSPACE: &str = "commits";

/// The nodes of a run. Each call returns at once, and lets the witness know.
pub(crate) trait Fleet: Send + 'static {
    /// The next name that no node has had.
    fn new_name(&mut self) -> String;

    /// Starts a node, again or for the first time.
    fn start(&mut self, name: &str);

    /// Does a fault to a node that runs. Not [`Fault::Join`], which is done to nobody.
    fn suffer(&mut self, name: &str, fault: Fault);

    /// Ends the fault again, where it does not end by itself.
    fn mend(&mut self, name: &str, fault: Fault);

    /// Lets all nodes finish and leave, and waits until they have; not for ever.
    fn end(self) -> impl Future<Output = ()> + Send;

    /// Starts a node under a new name.
    fn start_new(&mut self) {
        let name = self.new_name();
        self.start(&name);
    }
}
