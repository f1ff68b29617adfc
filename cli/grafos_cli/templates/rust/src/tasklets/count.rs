//! Counts the bytes, lines and words of a text. A text without a single byte is `empty_input`.

use grafos_std::{Output, ToJson};

/// What is told of a text. Words are what spaces, line ends and other control bytes separate.
#[derive(Debug, PartialEq, ToJson)]
struct Counts {
    bytes: usize,
    lines: usize,
    words: usize,
}

#[grafos_std::tasklet]
fn count(input: &[u8]) -> Result<Output, &'static str> {
    let counts = compute(input)?;
    grafos_std::log!("counted");
    Ok(Output::json(counts))
}

fn compute(text: &[u8]) -> Result<Counts, &'static str> {
    if text.is_empty() {
        return Err("empty_input");
    }
    Ok(Counts {
        bytes: text.len(),
        lines: text.iter().filter(|byte| **byte == b'\n').count(),
        words: text.split(|byte| *byte <= b' ').filter(|word| !word.is_empty()).count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_lines_and_words_are_counted() {
        let counts = compute(b"two words\non two lines\n");
        assert_eq!(counts, Ok(Counts { bytes: 23, lines: 2, words: 5 }));
    }

    #[test]
    fn a_text_without_a_byte_is_refused() {
        assert_eq!(compute(b""), Err("empty_input"));
    }
}
