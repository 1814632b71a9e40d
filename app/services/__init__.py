"""What the app can do, without Gradio; pages and REST routes both call it."""
