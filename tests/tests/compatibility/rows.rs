//! The rows of the page, by who meets them. New behaviour gets its row with its test.

mod clients;
mod events;
mod products;
mod rest;

use super::Area;

pub(super) const AREAS: &[Area] = &[
    Area { title: "REST operations", rows: rest::OPERATIONS },
    Area { title: "REST requests and answers", rows: rest::REQUESTS },
    Area { title: "Filters", rows: rest::FILTERS },
    Area { title: "Tokens", rows: rest::TOKENS },
    Area { title: "Connecting", rows: clients::CONNECTING },
    Area { title: "JSON clients", rows: clients::JSON },
    Area { title: "Protobuf clients", rows: clients::PROTOBUF },
    Area { title: "Raw clients", rows: clients::RAW },
    Area { title: "Reliable clients", rows: clients::RELIABLE },
    Area { title: "Event handlers", rows: events::HANDLERS },
    Area { title: "Answers of event handlers", rows: events::ANSWERS },
    Area { title: "Event listeners", rows: events::LISTENERS },
    Area { title: "Limits and close codes", rows: clients::LIMITS },
    Area { title: "SDKs", rows: products::SDKS },
    Area { title: "Other protocols and products", rows: products::OTHERS },
];
