"""Drawing with matplotlib: everything here is imported when the first picture is made."""
