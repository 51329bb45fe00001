"""Settings of the released training, for recipes to name or quote."""

RELEASED_NO_DECAY = [
    r"bias$",
    r"positions\.table",
    r"attention\.[^.]+\.norm\.weight",
    r"backbone\.norm\.weight",
    r"backbone\.text\.norm\.weight",
    r"objectives\.[^.]+\.norm\.weight",
]
"""For `optimizer.no_decay`: the released code's choice. It spares names with "bias" (thus the relative table), and norm
weights but the experts' and the classifiers'; gammas, [CLS], positions and temperatures decay."""

VISION_STAGE = {
    r"backbone\.(image|modality|norm)\.|positions\.table|gamma|(attention|experts)\.(image|all)\.|objectives\.": 1.0,
    r".*": 0.0,
}
"""For `lr_scale`: what masked image modelling reads, BEiT's parameters. Text parts and pooler wait for their stages."""
LANGUAGE_STAGE = {
    r"backbone\.(text|modality|norm)\.|experts\.text\.|positions\.table|objectives\.": 1.0,
    r".*": 0.0,
}
"""For `lr_scale`: what the released language stage trains. Attention, picture parts and pooler are frozen; the table
trains as a whole, and its picture rows stay because texts never index them."""
