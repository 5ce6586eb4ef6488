"""The last step of every segmenter: no segment of white space alone at either end."""


def tidy(text: str, ends: list[int]) -> list[int]:
    """The ends that part visible text from visible text, and the end of the text.

    A segment of white space alone joins its neighbour, so that no marker stands for nothing.
    """
    if not text:
        return []
    first = len(text) - len(text.lstrip())
    last = len(text.rstrip())
    kept = [end for end in dict.fromkeys(ends) if first < end < last]
    return [*kept, len(text)]
