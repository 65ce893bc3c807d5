//! What people are told of the fields of message logging, for both directions.

use crate::policies::Field;

pub const FIELDS: &[Field] = &[
    Field::new("loggingConfiguration", "Lines", "One entry for each line."),
    Field::new("loggingConfiguration[].itemName", "Name", "What `check` calls the entry."),
    Field::new("loggingConfiguration[].itemData.message", "Message", "The line's text.").expression(),
    Field::new("loggingConfiguration[].itemData.conditional", "Condition", "Whether there is a line.")
        .default("true")
        .expression(),
    Field::new(
        "loggingConfiguration[].itemData.category",
        "Category",
        "Stands before the text, with a colon; at most 256 bytes.",
    ),
    Field::new(
        "loggingConfiguration[].itemData.level",
        "Level",
        "Stands in the line. All levels are written: it is no filter.",
    ),
    Field::new(
        "loggingConfiguration[].itemData.firstSection",
        "Before the upstream",
        "A line for the request, before the upstream is asked.",
    )
    .default("false"),
    Field::new("loggingConfiguration[].itemData.secondSection", "After the upstream", "A line for the answer.")
        .default("false"),
];
