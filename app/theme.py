"""The theme: system fonts only, so that no other host is asked, and the style sheet's colors."""

import gradio as gr

COLORS = {
    "body_background_fill": "var(--r-bg)",
    "body_text_color": "var(--r-ink)",
    "body_text_color_subdued": "var(--r-dim)",
    "background_fill_primary": "var(--r-panel)",
    "background_fill_secondary": "var(--r-bg)",
    "border_color_primary": "var(--r-line)",
    "border_color_accent": "var(--r-accent)",
    "color_accent_soft": "var(--r-soft)",
    "link_text_color": "var(--r-accent)",
    "link_text_color_hover": "var(--r-accent)",
    "link_text_color_active": "var(--r-accent)",
    "link_text_color_visited": "var(--r-accent)",
    "block_background_fill": "transparent",
    "block_border_color": "var(--r-line)",
    "block_label_background_fill": "transparent",
    "block_label_text_color": "var(--r-dim)",
    "block_title_text_color": "var(--r-dim)",
    "block_info_text_color": "var(--r-dim)",
    "panel_background_fill": "var(--r-panel)",
    "panel_border_color": "var(--r-line)",
    "input_background_fill": "var(--r-field)",
    "input_background_fill_focus": "var(--r-field)",
    "input_border_color": "var(--r-line)",
    "input_border_color_focus": "var(--r-accent)",
    "input_placeholder_color": "var(--r-dim)",
    "button_primary_background_fill": "var(--r-accent)",
    "button_primary_background_fill_hover": "var(--r-accent)",
    "button_primary_text_color": "var(--r-accent-ink)",
    "button_primary_text_color_hover": "var(--r-accent-ink)",
    "button_primary_border_color": "var(--r-accent)",
    "button_primary_border_color_hover": "var(--r-accent)",
    "button_secondary_background_fill": "var(--r-panel)",
    "button_secondary_background_fill_hover": "var(--r-panel)",
    "button_secondary_text_color": "var(--r-ink)",
    "button_secondary_text_color_hover": "var(--r-accent)",
    "button_secondary_border_color": "var(--r-line)",
    "button_secondary_border_color_hover": "var(--r-accent)",
    "checkbox_background_color": "var(--r-field)",
    "checkbox_background_color_selected": "var(--r-accent)",
    "checkbox_border_color": "var(--r-line)",
    "checkbox_label_background_fill": "var(--r-field)",
    "checkbox_label_background_fill_hover": "var(--r-soft)",
    "checkbox_label_background_fill_selected": "var(--r-soft)",
    "checkbox_label_border_color": "var(--r-line)",
    "checkbox_label_text_color": "var(--r-dim)",
    "checkbox_label_text_color_selected": "var(--r-accent)",
    "slider_color": "var(--r-accent)",
}
"""In light and in dark: the style sheet has both."""
SIZES = {
    "block_border_width": "0px",
    "block_shadow": "none",
    "block_padding": "0px",
    "block_label_text_size": "12.5px",
    "block_title_text_size": "12.5px",
    "block_title_text_weight": "400",
    "input_padding": "7px 9px",
    "input_text_size": "15px",
    "input_radius": "8px",
    "form_gap_width": "0px",
    "layout_gap": "12px",
    "button_large_padding": "9px 18px",
    "button_large_text_size": "15px",
    "button_large_radius": "8px",
}


def make_theme() -> gr.themes.Base:
    """Return the theme: system fonts only, colors from the style sheet."""
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace"]
    theme = gr.themes.Base(font=fonts, font_mono=mono, text_size="md", radius_size="md")
    both = COLORS | {f"{name}_dark": value for name, value in COLORS.items()}
    return theme.set(**_accepted(theme, both | SIZES))


def _accepted(theme: gr.themes.Base, values: dict[str, str]) -> dict[str, str]:
    # A few variables have no dark twin.
    return {name: value for name, value in values.items() if hasattr(theme, name)}
