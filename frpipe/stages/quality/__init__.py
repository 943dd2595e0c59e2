"""The stage `quality`: pose, light, detail and more of each face, and limits that hold faces back."""
