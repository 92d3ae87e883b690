"""Turn the scores of all subsets of families into unique, shared, Shapley and product-measure parts."""
