"""TensorBoard as the window of a comparison: means over seeds, the verdict, and the view that shows them."""
