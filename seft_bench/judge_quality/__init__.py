"""The quality of a judge: beside human votes, recorded or asked for now, and beside itself when it judges again."""
