"""Measures of how usable a face is: points and pixels in, a raw value and a component of 0 to 100 out."""
