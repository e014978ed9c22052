//! The flag by which a core says that it sleeps, so that it is woken once and only then (rule 4).
//!
//! The sleeper announces, then looks at its queues once more, then waits. The waker puts something into a
//! queue, then asks. Both have a full fence between their write and their read, so at least one of them sees
//! the other: nothing stays in a queue with the sleeper waiting and nobody ringing. The model in the tests
//! tries every interleaving.

macro_rules! sleep_flag {
    ($atomic:ty, $fence:path) => {
        /// See the module.
        #[derive(Debug, Default)]
        pub(crate) struct Sleep {
            asleep: $atomic,
        }

        impl Sleep {
            /// The sleeper is about to wait; it must look at its queues after this.
            pub(crate) fn announce(&self) {
                self.asleep.store(true, Ordering::Relaxed);
                $fence(Ordering::SeqCst);
            }

            /// The sleeper is awake.
            pub(crate) fn awake(&self) {
                self.asleep.store(false, Ordering::Relaxed);
            }

            /// Whether the caller, who just put something into a queue, must ring; says so to one caller only.
            pub(crate) fn must_ring(&self) -> bool {
                $fence(Ordering::SeqCst);
                self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed)
            }
        }
    };
}

use std::sync::atomic::{AtomicBool, Ordering, fence};
sleep_flag!(AtomicBool, fence);

#[cfg(test)]
mod tests {
    mod modelled {
        use loom::sync::atomic::{AtomicBool, Ordering, fence};
        sleep_flag!(AtomicBool, fence);
    }

    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};

    /// Two wakers put one thing each; the sleeper either sees it before it waits or is rung. Two preemptions
    /// per run keep the model at seconds; without the bound it takes nine minutes and holds as well.
    #[test]
    fn nobody_sleeps_on_a_full_queue() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let sleep = Arc::new(modelled::Sleep::default());
            let queues = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
            let bell = Arc::new(AtomicUsize::new(0));
            let wakers: Vec<_> = (0..2)
                .map(|which| {
                    let (sleep, queues, bell) = (Arc::clone(&sleep), Arc::clone(&queues), Arc::clone(&bell));
                    loom::thread::spawn(move || {
                        queues[which].store(1, Ordering::Release);
                        if sleep.must_ring() {
                            bell.fetch_add(1, Ordering::SeqCst);
                        }
                    })
                })
                .collect();
            sleep.announce();
            let seen = queues.iter().filter(|queue| queue.load(Ordering::Acquire) == 1).count();
            let waits = seen == 0;
            if !waits {
                sleep.awake();
            }
            for waker in wakers {
                waker.join().unwrap();
            }
            let rung = bell.load(Ordering::SeqCst);
            assert!(!waits || rung == 1, "it waits, two things are queued, and it was rung {rung} times");
            assert!(rung <= 1);
        });
    }
}
