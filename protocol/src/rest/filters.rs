//! Filters compiled lately, by their text: applications send the same few over and over.

use std::collections::BTreeMap;

use super::filter::{Filter, FilterError};

/// Longest text that is kept, in bytes: what is longer is rarely sent twice.
const KEPT_TEXT_BYTES_MAX: usize = 1024;

/// A bounded cache of compiled filters; one that was not asked for the longest makes room.
#[derive(Debug)]
pub struct Filters {
    kept: BTreeMap<Box<str>, Kept>,
    kept_max: usize,
    /// Counts questions, to know which filter was asked for last.
    clock: u64,
    /// Questions answered from the cache.
    pub hits: u64,
    /// Texts that had to be compiled.
    pub misses: u64,
}

#[derive(Debug)]
struct Kept {
    filter: Filter,
    asked: u64,
}

impl Filters {
    /// An empty cache of at most `kept_max` filters.
    pub fn new(kept_max: usize) -> Self {
        Self { kept: BTreeMap::new(), kept_max, clock: 0, hits: 0, misses: 0 }
    }

    /// The filter of a text; `None` for a blank one. A text that is no filter is not remembered.
    ///
    /// # Errors
    /// Those of [`Filter::parse`].
    pub fn get(&mut self, text: &str) -> Result<Option<Filter>, FilterError> {
        if text.is_empty() {
            return Ok(None);
        }
        self.clock += 1;
        if let Some(kept) = self.kept.get_mut(text) {
            kept.asked = self.clock;
            self.hits += 1;
            return Ok(Some(kept.filter.clone()));
        }
        self.misses += 1;
        let filter = Filter::parse(text)?;
        if let Some(filter) = &filter
            && text.len() <= KEPT_TEXT_BYTES_MAX
            && self.kept_max > 0
        {
            if self.kept.len() >= self.kept_max {
                let oldest =
                    self.kept.iter().min_by_key(|(_, kept)| kept.asked).map(|(text, _)| text.clone());
                oldest.map(|text| self.kept.remove(&text));
            }
            self.kept.insert(text.into(), Kept { filter: filter.clone(), asked: self.clock });
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_not_asked_for_the_longest_makes_room() {
        let mut filters = Filters::new(2);
        let text = |n: u32| format!("userId eq '{n}'");
        for n in [1, 2, 1, 3, 1, 2] {
            let filter = filters.get(&text(n)).unwrap();
            assert_eq!(filter, Filter::parse(&text(n)).unwrap());
            assert!(filters.kept.len() <= 2);
        }
        assert_eq!((filters.hits, filters.misses), (2, 4));
    }

    #[test]
    fn what_is_no_filter_or_long_is_not_kept() {
        let mut filters = Filters::new(2);
        assert_eq!(filters.get(""), Ok(None));
        assert_eq!(filters.get(" "), Ok(None));
        assert!(filters.get("userId").is_err());
        let long = format!("userId eq '{}'", "x".repeat(KEPT_TEXT_BYTES_MAX));
        assert!(filters.get(&long).unwrap().is_some());
        assert!(filters.kept.is_empty());
    }
}
