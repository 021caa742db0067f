//! What ends with a task that is given up: nothing that it still does may reach the cluster.

use std::sync::Arc;

use aqueduct_client::Producer;
use parking_lot::Mutex;

/// Shared by a task and whoever may give it up.
#[derive(Clone, Default)]
pub struct Lifeline(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    cut: bool,
    producers: Vec<Producer>,
}

impl Lifeline {
    /// This producer ends with the task.
    pub fn hold(&self, producer: &Producer) {
        let mut state = self.0.lock();
        if state.cut {
            producer.abandon();
        } else {
            state.producers.push(producer.clone());
        }
    }

    /// The task is given up.
    pub fn cut(&self) {
        let producers = {
            let mut state = self.0.lock();
            state.cut = true;
            std::mem::take(&mut state.producers)
        };
        producers.iter().for_each(Producer::abandon);
    }

    /// Whether the task was given up: it must not commit anything any more.
    pub fn is_cut(&self) -> bool {
        self.0.lock().cut
    }
}
