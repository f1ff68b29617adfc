//! Counts words, and leaves the length of each as output bytes.

use grafos_std::Output;

/// The words of a text, as far as there is text.
pub fn compute(input: &[u8]) -> Vec<&[u8]> {
    input.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect()
}

#[grafos_std::tasklet]
pub fn count_words(input: &[u8]) -> Output {
    let words = compute(input);
    let lengths: Vec<u8> = words.iter().map(|word| word.len().min(255) as u8).collect();
    Output::json(words.len()).with_bytes(lengths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_stands_between_spaces() {
        assert_eq!(compute(b" two  words\n").len(), 2);
        assert_eq!(compute(b"").len(), 0);
    }
}
