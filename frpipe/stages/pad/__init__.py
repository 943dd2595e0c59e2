"""The stage `pad`: detection of printed and replayed photos, and a limit that holds faces back."""
