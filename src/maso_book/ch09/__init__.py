"""Chapter 09, soft VQ and swish: where between hard and soft does swish stand?"""
