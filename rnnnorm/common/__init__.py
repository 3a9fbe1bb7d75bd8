"""What all packages stand on: checked ranges of options, attributes as text, who looks into operators."""
