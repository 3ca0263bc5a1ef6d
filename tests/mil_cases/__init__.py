"""What the evaluator's operations are compared on, one module for each module of the evaluator."""
