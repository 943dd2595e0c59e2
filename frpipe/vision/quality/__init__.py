"""Measures of how usable a face is: points and pixels in, a raw value and a component of 0 to 100 out.

Definitions are those of ISO/IEC 29794-5:2025 as its reference implementation OFIQ 1.0.3 computes them, read
from its source. A docstring that names OFIQ names the function there, and says where ours differs.
"""

from frpipe.vision.quality.plain import brightness, inter_eye_px, nose_offset, sharpness

__all__ = ["brightness", "inter_eye_px", "nose_offset", "sharpness"]
